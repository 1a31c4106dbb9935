"""One server of a database."""

from taskensemble.entity import DatabaseNode as DBNode

__all__ = ["DBNode"]
