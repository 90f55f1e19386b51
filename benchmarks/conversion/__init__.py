"""Checkpoints of upstream LLaVA in the form of transformers, and back."""
