"""The `taskensemble` command."""
