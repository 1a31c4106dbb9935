"""Of SmartSim's command line, what scripts import: `taskensemble` is the command here."""
