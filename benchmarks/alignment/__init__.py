"""Alignment of image tokens to text tokens without training: a map folded into the projector."""
