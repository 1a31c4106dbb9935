"""The one part of SmartSim's inside that scripts reach for: the generator."""
