"""Descriptions, under SmartSim's names."""

from taskensemble.smartsim.entity.dbnode import DBNode
from taskensemble.smartsim.entity.dbobject import DBModel, DBObject, DBScript
from taskensemble.smartsim.entity.ensemble import Ensemble
from taskensemble.smartsim.entity.entity import SmartSimEntity, TelemetryConfiguration
from taskensemble.smartsim.entity.entityList import EntityList, EntitySequence
from taskensemble.smartsim.entity.model import Model

__all__ = [
    "DBModel",
    "DBNode",
    "DBObject",
    "DBScript",
    "Ensemble",
    "EntityList",
    "EntitySequence",
    "Model",
    "SmartSimEntity",
    "TelemetryConfiguration",
]
