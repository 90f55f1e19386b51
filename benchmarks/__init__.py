"""Evaluation of multimodal checkpoints, and the miniature model that the demo and tests train."""
