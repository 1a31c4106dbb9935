"""Benchmarks: `python -m benchmarks` prints the tables, side by side with peers in one run on one machine."""
