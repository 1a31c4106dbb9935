"""`python -m taskensemble.demo [folder]`."""

import sys
from pathlib import Path

from taskensemble.demo.driver import main

if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("plate"))
