"""The verbs of `textmill` that are more than one stage; the command itself is textmill/cli.py."""
