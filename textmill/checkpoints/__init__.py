"""Checkpoints: our own folder, its copies in object stores, and the formats of OpenAI and Hugging Face, in and out."""
