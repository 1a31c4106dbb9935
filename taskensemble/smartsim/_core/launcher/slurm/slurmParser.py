"""Slurm's answers, read."""

from taskensemble.wlm.slurm import parse_salloc, parse_salloc_error

__all__ = ["parse_salloc", "parse_salloc_error"]
