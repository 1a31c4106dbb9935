"""Descriptions: what a user says about models, ensembles, databases, files and ML assets."""

from taskensemble.entity.assets import Asset, MLModel, Script
from taskensemble.entity.colocated import ColocatedDatabase
from taskensemble.entity.database import Database, DatabaseNode
from taskensemble.entity.ensemble import Ensemble
from taskensemble.entity.entity import Entity
from taskensemble.entity.files import AttachedFiles
from taskensemble.entity.model import Model
from taskensemble.entity.policy import Policy, Resources

__all__ = [
    "Asset",
    "AttachedFiles",
    "ColocatedDatabase",
    "Database",
    "DatabaseNode",
    "Ensemble",
    "Entity",
    "MLModel",
    "Model",
    "Policy",
    "Resources",
    "Script",
]
