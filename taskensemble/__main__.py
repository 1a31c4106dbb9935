"""`taskensemble`, and `python -m taskensemble`: the command line.

Loading it takes a moment: Ctrl-C in that moment ends it as quietly as later.
"""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from taskensemble.cli.main import main as command_line

        command_line()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
