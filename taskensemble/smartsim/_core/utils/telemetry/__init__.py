"""What SmartSim's telemetry keeps of entities. Nothing collects it here: a run's records have it."""
