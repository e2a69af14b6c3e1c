"""What `textmill.train` is made of: batches, the two families' ways of training, settings, plans and log lines.

The loop itself is textmill/train.py; the models are in models/, what a run leaves in checkpoints/.
"""
