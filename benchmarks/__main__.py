"""`make bench` prints every table; `make bench-check` fails when a ratio to a peer has fallen by a quarter."""

from __future__ import annotations

import subprocess
import sys

from benchmarks import members, side_by_side


def main() -> int:
    """Print the tables, or check the ratios."""
    if "--check" in sys.argv[1:]:
        return side_by_side.main(["--check"])
    sys.argv[1:] = []
    members.main()
    print()
    side_by_side.main([])
    print()
    # The AI figures pin themselves to cores: a process of their own leaves this one alone.
    return subprocess.run([sys.executable, "-m", "benchmarks.ai"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
