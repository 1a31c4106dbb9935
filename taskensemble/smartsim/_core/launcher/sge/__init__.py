"""Grid Engine's answers, read."""
