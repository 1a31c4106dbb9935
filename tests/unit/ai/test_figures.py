"""The figures of models: quantiles, and what happened between two looks."""

from __future__ import annotations

from typing import Any

from taskensemble.database.figures import asset_keys, read_figures

REPLY = [
    b"key", b"m", b"type", b"MODEL", b"backend", b"TORCH", b"device", b"CPU", b"duration", 4000, b"samples", 12,
    b"calls", 6, b"errors", 0, b"waiting", 2, b"batches", 3, b"largest_batch", 8, b"p50", 199, b"p99", 999,
    b"batch_sizes", [1, 1, 4, 2], b"latencies", [99, 2, 199, 2, 999, 2],
]  # fmt: skip
INFORMATION = [
    b"key", b"s", b"type", b"SCRIPT", b"backend", b"TORCH", b"device", b"CPU", b"tag", b"", b"duration", 10,
    b"samples", -1, b"calls", 1, b"errors", 0,
]  # fmt: skip


class RefusedError(Exception):
    pass


def test_quantiles_come_from_the_classes() -> None:
    (figures,) = read_figures(lambda *words: [REPLY], [b"m"], RefusedError)
    assert figures.latency(0.5) == 199e-6
    assert figures.latency(0.34) == 199e-6
    assert figures.latency(0.33) == 99e-6
    assert figures.latency(0.99) == 999e-6
    assert figures.mean_batch == 2
    assert figures.batch_sizes == {1: 1, 4: 2}


def test_what_happened_since_an_earlier_look_is_the_difference() -> None:
    (earlier,) = read_figures(lambda *words: [REPLY], [b"m"], RefusedError)
    later: list[Any] = [*REPLY]
    later[later.index(b"calls") + 1] = 7
    later[later.index(b"latencies") + 1] = [99, 3, 199, 2, 999, 2]
    (now,) = read_figures(lambda *words: [later], [b"m"], RefusedError)
    between = now.since(earlier)
    assert (between.calls, between.latencies, between.latency(0.99)) == (1, {99: 1}, 99e-6)
    assert earlier.since(now) is earlier, "a reset between"
    assert earlier.since(earlier).latency(0.5) is None


def test_a_server_that_does_not_tell_figures_is_asked_for_its_information() -> None:
    def ask(*words: object) -> Any:
        if words[0] == "AI.INFO" and words[1] == b"s":
            return INFORMATION
        if words[0] == "AI._SCRIPTSCAN":
            return [[b"s", b""]]
        if words[0] == "AI._MODELSCAN":
            return [[b"gone", b""]]
        raise RefusedError(words)

    assert asset_keys(ask) == [b"gone", b"s"]
    (figures,) = read_figures(ask, asset_keys(ask), RefusedError)
    assert (figures.name, figures.calls, figures.latency(0.5), figures.mean_batch) == ("s", 1, None, None)
