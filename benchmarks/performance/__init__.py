"""What ReGap costs: measured, never asserted."""
