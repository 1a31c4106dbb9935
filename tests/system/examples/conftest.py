"""Drivers of `examples/`, run as a user runs them."""

from tests.drivers import drive

__all__ = ["drive"]
