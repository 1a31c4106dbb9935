"""The database, under SmartSim's name."""

from taskensemble.smartsim.database.orchestrator import Orchestrator

__all__ = ["Orchestrator"]
