"""Large models that reach server and worker through sealed memory of this host instead of sockets."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from taskensemble.database import assets as loading
from taskensemble.database import load_assets
from taskensemble.engine.records import AssetRecord

torch = pytest.importorskip("torch")

SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


class Wide(torch.nn.Module):  # type: ignore[misc]
    """Doubles its input; 2 MB of weights come along."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((500_000,), 2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight[: x.numel()]


class Writer(torch.nn.Module):  # type: ignore[misc]
    """Would write a file when it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(500_000))
        self.target = "stolen"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, self.target)
        return x + self.weight[0]


def archive(module: torch.nn.Module) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(module.eval()), buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def wide() -> bytes:
    return archive(Wide())


def digest_of(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()


@contextlib.contextmanager
def memory(blob: bytes, name: str = "", seals: int = SEALS) -> Iterator[int]:
    """A memfd with these bytes, as setup makes one."""
    descriptor = os.memfd_create(name or f"taskensemble-{digest_of(blob)}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        file.write(blob)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        yield descriptor


def memfds(server: Any) -> list[str]:
    """The memfds that the server holds."""
    folder = Path(f"/proc/{server.record.processes[0]}/fd")
    links = []
    for entry in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(entry))
    return sorted(link for link in links if "memfd" in link)


def doubles(server: Any, key: str) -> bool:
    server.put("x", np.arange(4, dtype=np.float32))
    server("AI.MODELEXECUTE", key, "INPUTS", 1, "x", "OUTPUTS", 1, "y")
    return bool((server.get("y") == [0, 2, 4, 6]).all())


def test_a_model_is_stored_from_the_memory_of_another_process_and_nothing_of_it_stays_open(
    server: Any, wide: bytes
) -> None:
    server("AI.SCRIPTSET", "s", "CPU", "SOURCE", "def same(x):\n    return x\n")
    before = memfds(server)
    with memory(wide) as descriptor:
        server("AI.MODELSTORE", "m", "TORCH", "CPU", "MEMORY", os.getpid(), descriptor, digest_of(wide))
        assert memfds(server) == before
    assert server("AI.MODELGET", "m", "BLOB") == wide
    assert doubles(server, "m")
    assert "taskensemble-" not in str(memfds(server))


def test_a_large_model_that_comes_as_bytes_runs_and_nothing_of_it_stays_open(server: Any, wide: bytes) -> None:
    server("AI.SCRIPTSET", "s", "CPU", "SOURCE", "def same(x):\n    return x\n")
    before = memfds(server)
    server("AI.MODELSTORE", "sent", "TORCH", "CPU", "BLOB", wide)
    assert memfds(server) == before
    assert server("AI.MODELGET", "sent", "BLOB") == wide
    assert doubles(server, "sent")


@pytest.mark.parametrize("what", ["another name", "not sealed", "a file", "no process", "another digest"])
def test_only_sealed_memory_with_the_name_of_its_content_is_opened(
    server: Any, wide: bytes, tmp_path: Path, what: str
) -> None:
    name = "something" if what == "another name" else ""
    with memory(wide, name, 0 if what == "not sealed" else SEALS) as descriptor, (tmp_path / "f").open("wb") as file:
        file.write(wide)
        file.flush()
        pid = 2**22 + 1 if what == "no process" else os.getpid()
        given = file.fileno() if what == "a file" else descriptor
        digest = digest_of(b"other") if what == "another digest" else digest_of(wide)
        with pytest.raises(redis.ResponseError, match="cannot open this MEMORY: send the model as BLOB"):
            server("AI.MODELSTORE", "refused", "TORCH", "CPU", "MEMORY", pid, given, digest)
    assert not server("EXISTS", "refused")


@pytest.mark.parametrize(("what", "text"), [("writes a file", "aten::save"), ("is cut off", "archive")])
def test_a_model_that_cannot_be_loaded_is_refused_in_memory_too(server: Any, what: str, text: str, wide: bytes) -> None:
    bad = archive(Writer()) if what == "writes a file" else wide[:-100_000]
    with memory(bad) as descriptor, pytest.raises(redis.ResponseError, match=text):
        server("AI.MODELSTORE", "bad", "TORCH", "CPU", "MEMORY", os.getpid(), descriptor, digest_of(bad))
    assert not server("EXISTS", "bad")
    assert "taskensemble-" not in str(memfds(server))


@pytest.mark.parametrize("opened", [True, False])
def test_setup_hands_a_model_over_in_memory_or_sends_it_where_the_server_cannot_open_that(
    start: Callable[..., Any], wide: bytes, monkeypatch: pytest.MonkeyPatch, opened: bool
) -> None:
    if not opened:
        monkeypatch.setattr(loading, "_SEALS", fcntl.F_SEAL_SHRINK)
    server = start()
    record = AssetRecord(name="net", kind="model", digest=digest_of(wide), size=len(wide))
    load_assets(server.record, [record], lambda _: wide)
    assert server("AI.MODELGET", "net", "BLOB") == wide
    assert doubles(server, "net")
    refused = int(server("INFO", "errorstats").get("errorstat_ERR", {}).get("count", 0))
    assert refused == (0 if opened else 1)
