"""A compiled pipeline run on this machine: `textmill run`."""
