"""Drivers as people write them, one file each; the benchmarks run them as processes of their own and read what they print."""
