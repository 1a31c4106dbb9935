"""Containers that a program runs in."""

from taskensemble.settings import Container, Singularity

__all__ = ["Container", "Singularity"]
