"""Estimates' intervals, tests between groups of runs, and agreement between judges."""
