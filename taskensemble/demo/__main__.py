"""`taskensemble demo`, and `python -m taskensemble.demo`."""

import argparse
from pathlib import Path

from taskensemble.demo.driver import main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="taskensemble demo",
        description="Run the demo: a heated plate, simulated by an ensemble and predicted by a model in the database.",
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("plate"), help="where members run (default: plate)"
    )
    parser.add_argument("--slots", type=int, help="members at a time (default: one for each core)")
    arguments = parser.parse_args()
    main(arguments.folder, arguments.slots)
