"""Doer: members' files where hosts share no file system. Inputs travel with the run, outputs come back through a store.

    the driver     `pack` reads the inputs when a run starts; `collect` writes a member's folder once the member has ended
    a worker       `Scratch` makes the member's folder there, and `send` returns what the member left in it

Files are checked against their SHA-256 wherever they arrive. Their bytes go through the control plane's record store, or, where a
run names another one, through any that fsspec can open.
"""

from taskensemble.transfer.inputs import pack, repack, store_inputs
from taskensemble.transfer.outputs import collect
from taskensemble.transfer.scratch import Scratch

__all__ = ["Scratch", "collect", "pack", "repack", "store_inputs"]
