"""What `textmill.normalize` is made of: cleaning, duplicates, the split, the tokens, and the dataset folder.

Knows the corpus folder (corpora/), the rules and the tokenizers; nothing of models or training.
"""
