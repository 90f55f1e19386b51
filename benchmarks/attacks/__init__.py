"""Attacks on a model whose weights are there: pictures made against its refusal."""
