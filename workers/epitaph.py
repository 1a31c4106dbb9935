"""What a guard runs when its worker has died and all members have been ended: the store learns of it at once, first of what
had ended before, which only the guard knows, then of what had not.

python -P -m workers.epitaph <worker> <what the tokens of its attempts begin with>
"""

from __future__ import annotations

import os
import sys

from taskensemble.engine import messages
from taskensemble.engine.store import Store
from workers import ends
from workers.allocation import cancel_steps
from workers.reaper import lose_worker


def main() -> None:
    """Gives the dead worker's attempts back."""
    name, prefix = sys.argv[1:3]
    broker_url = os.environ["TASKENSEMBLE_BROKER_URL"]
    store = Store(os.environ.get("TASKENSEMBLE_STORE_URL") or broker_url, patience=30)
    publisher = messages.Publisher(broker_url)
    # A step that does not end by SIGTERM outlives its srun, which the guard has killed.
    cancel_steps(prefix, os.environ)
    lose_worker(store, publisher, prefix, "its worker died")
    ends.drop(prefix)
    store.drop_worker(name)
    publisher.close()
    store.close()


if __name__ == "__main__":
    main()
