"""Textmill: from a body of text to a trained, measured and served text generator.

The package holds the stages; it never imports kfp. A stage is one plain function from folders to a folder:

    source --ingest--> corpus --normalize--> dataset --train--> checkpoint --generate--> texts
"""

__version__ = "0.1.0"
