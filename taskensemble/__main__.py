"""`python -m taskensemble`: the command line."""

from taskensemble.cli.main import main

main()
