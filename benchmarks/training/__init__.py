"""Safety training of checkpoints: data for upstream's own scripts, and preference training."""
