"""A miniature vision-language model: drawn pictures, tiny checkpoints, a demo on two CPU cores."""
