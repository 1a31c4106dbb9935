"""What a server tells of its models and scripts: calls, batches, queue lengths, and how long requests took."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Ask = Callable[..., Any]
"""Runs a command on a server; a refused one raises."""


@dataclass(frozen=True)
class Figures:
    """One model or script on one server, since it was stored or its statistics were reset."""

    name: str
    type: str
    """MODEL or SCRIPT."""
    backend: str
    device: str
    calls: int
    errors: int
    samples: int
    """-1 for scripts."""
    seconds: float
    """Spent in the backend."""
    waiting: int = 0
    """Requests in its queue now."""
    batches: int = 0
    largest_batch: int = 0
    """In samples."""
    batch_sizes: Mapping[int, int] = field(default_factory=dict)
    """Batches by the number of requests in them, up to the key."""
    latencies: Mapping[int, int] = field(default_factory=dict)
    """Requests by the microseconds from their arrival until their outputs were back, up to the key."""

    def latency(self, share: float) -> float | None:
        """The seconds within which this share of the requests was answered; None: there were none.

        Arguments:
            share: between 0 and 1: 0.5 gives the median.
        """
        wanted = math.ceil(share * sum(self.latencies.values()))
        seen = 0
        for end, count in sorted(self.latencies.items()):
            seen += count
            if seen >= wanted:
                return end / 1e6
        return None

    @property
    def mean_batch(self) -> float | None:
        """Requests in a batch; None: there was none."""
        requests = sum(self.latencies.values())
        return requests / self.batches if self.batches else None

    def since(self, earlier: Figures | None) -> Figures:
        """What has happened since an earlier look; everything where there was none, or a reset between."""
        if earlier is None or earlier.calls > self.calls:
            return self
        return replace(
            self,
            calls=self.calls - earlier.calls,
            errors=self.errors - earlier.errors,
            samples=self.samples - earlier.samples if self.samples >= 0 else -1,
            seconds=self.seconds - earlier.seconds,
            batches=self.batches - earlier.batches,
            batch_sizes=_difference(self.batch_sizes, earlier.batch_sizes),
            latencies=_difference(self.latencies, earlier.latencies),
        )


def _difference(now: Mapping[int, int], before: Mapping[int, int]) -> dict[int, int]:
    return {end: count - before.get(end, 0) for end, count in now.items() if count > before.get(end, 0)}


def asset_keys(ask: Ask) -> list[bytes]:
    """The keys of a server's models and scripts. It walks the keyspace, as SCAN does."""
    return sorted({bytes(entry[0]) for command in ("AI._MODELSCAN", "AI._SCRIPTSCAN") for entry in ask(command)})


def read_figures(ask: Ask, keys: Collection[bytes], refused: type[Exception]) -> list[Figures]:
    """The figures of these models and scripts; those that are gone are left out.

    Arguments:
        refused: what `ask` raises. RedisAI, and a user without administration, are refused the command that tells everything;
            then there is what AI.INFO says.
    """
    if not keys:
        return []
    try:
        replies = ask("AI._WORKER", "FIGURES", *keys)
    except refused:
        replies = [_information(ask, key, refused) for key in keys]
    return [_figures(reply) for reply in replies if reply is not None]


def _information(ask: Ask, key: bytes, refused: type[Exception]) -> Any:
    try:
        return ask("AI.INFO", key)
    except refused:
        return None


def _figures(reply: list[Any]) -> Figures:
    facts = {_text(name): value for name, value in zip(reply[::2], reply[1::2], strict=True)}
    return Figures(
        name=_text(facts["key"]),
        type=_text(facts["type"]),
        backend=_text(facts["backend"]),
        device=_text(facts["device"]),
        calls=int(facts["calls"]),
        errors=int(facts["errors"]),
        samples=int(facts["samples"]),
        seconds=int(facts["duration"]) / 1e6,
        waiting=int(facts.get("waiting", 0)),
        batches=int(facts.get("batches", 0)),
        largest_batch=int(facts.get("largest_batch", 0)),
        batch_sizes=_classes(facts.get("batch_sizes", ())),
        latencies=_classes(facts.get("latencies", ())),
    )


def _classes(flat: Iterable[Any]) -> dict[int, int]:
    numbers = [int(number) for number in flat]
    return dict(zip(numbers[::2], numbers[1::2], strict=True))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else bytes(value).decode(errors="replace")
