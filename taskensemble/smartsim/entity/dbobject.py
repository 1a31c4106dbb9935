"""ML models and scripts that are in the database before a program starts."""

from taskensemble.entity import Asset as DBObject
from taskensemble.entity import MLModel as DBModel
from taskensemble.entity import Script as DBScript

__all__ = ["DBModel", "DBObject", "DBScript"]
