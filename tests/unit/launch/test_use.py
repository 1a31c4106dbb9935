"""Who uses a database, on recorded lines of CLIENT LIST."""

from __future__ import annotations

import pytest

from taskensemble.launch.use import in_use

LINE = "id={id} addr=10.0.0.7:4242 laddr=10.0.0.9:6379 fd=8 name={name} idle={idle} flags={flags} db=0 cmd={cmd} user=default"


def line(cmd: str, *, idle: int = 0, name: str = "", flags: str = "N", number: int = 7) -> str:
    return LINE.format(id=number, name=name, idle=idle, flags=flags, cmd=cmd)


@pytest.mark.parametrize(
    "client",
    [
        line("ping", idle=5000, name="taskensemble-driver"),
        line("ai.tensorset"),
        line("blpop", idle=900, flags="b"),
        line("subscribe", idle=900, flags="P"),
    ],
)
def test_a_driver_and_a_client_at_work_use_it(client: str) -> None:
    assert in_use([line("client|list", number=3), client], own="3")


@pytest.mark.parametrize(
    "client",
    [
        line("ai.tensorset", idle=60),
        line("ai._worker", flags="b"),
        line("info"),
        line("client|id"),
        line("ai.tensorset", number=3),
    ],
)
def test_its_own_workers_those_who_watch_it_and_idle_ones_do_not(client: str) -> None:
    assert not in_use([client], own="3")
