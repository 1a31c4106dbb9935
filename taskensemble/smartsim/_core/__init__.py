"""The two parts of SmartSim's inside that scripts reach for: the generator and the manifest."""
