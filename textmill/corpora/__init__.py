"""The corpus folder, what an ingest keeps for the next one, and a corpus taken apart into its items.

Used by the stages `textmill.ingest` and `textmill.normalize`; knows nothing of where documents come from (sources/).
"""
