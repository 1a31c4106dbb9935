"""Slurm's answers, read."""
