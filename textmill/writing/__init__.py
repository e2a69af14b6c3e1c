"""New text from a trained model: prompts, the pool of slots, where a text ends, and how it is finished and shown.

The stage is textmill/generate.py, the service is serving/; both use `textmill.writing.generator.Generator`.
"""
