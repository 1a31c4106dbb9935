"""Files that a program finds in its folder."""

from taskensemble.entity import AttachedFiles as EntityFiles

__all__ = ["EntityFiles"]
