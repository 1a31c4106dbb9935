"""Which environment variables hold secrets, judged by their names.

Their values are never in a record, a command line, a message, a preview, a report or a log: a record names them, and the values
stand in a key of the run's own that only workers read (see store.lua, `secrets`).

A name is a secret's when one of its words (between underscores) is PASSWORD, PASSWD, PASSPHRASE, TOKEN, SECRET, CREDENTIAL, or
their plural, when it contains PASSWORD or APIKEY, or when its last word is KEY, PWD (not PWD alone) or AUTH; letters of any case.
TASKENSEMBLE_SECRET_ENV adds names and patterns, separated by commas; one with `!` in front takes names out:
`TASKENSEMBLE_SECRET_ENV='WANDB_*,!GAME_KEY'`.
"""

from __future__ import annotations

import os
import re
from fnmatch import fnmatchcase

VARIABLE = "TASKENSEMBLE_SECRET_ENV"
_SECRET = re.compile(
    r"PASSWORD|APIKEY|(?:^|_)(?:PASSWD|PASSPHRASE|TOKEN|SECRET|CREDENTIAL)S?(?:_|$)|(?:^|_)(?:KEY|AUTH)$|_PWD$"
)


def is_secret(name: str) -> bool:
    """Whether a variable of this name holds a secret."""
    listed = [pattern.strip() for pattern in os.environ.get(VARIABLE, "").split(",") if pattern.strip()]
    if any(fnmatchcase(name, pattern[1:].strip()) for pattern in listed if pattern.startswith("!")):
        return False
    return bool(_SECRET.search(name.upper()) or any(fnmatchcase(name, pattern) for pattern in listed))
