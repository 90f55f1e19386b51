"""Defences at inference: what stands between a request and the model."""
