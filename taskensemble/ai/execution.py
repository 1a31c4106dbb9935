"""What models and scripts share: where their copies are, and how one is run on tensors that may be elsewhere."""

from __future__ import annotations

from collections.abc import Callable

from .arguments import check_type, gpu_range
from .datasets import DatasetCalls
from .resp import Argument, Reply, ReplyError
from .session import ran, reported
from .tensors import tensor_get, tensor_reset
from .topology import Cluster, Command

_NO_LIMIT = 10.0 * 365 * 86400
"""Seconds: an execution is bounded by the database's queue, not by the client."""

Compose = Callable[[bytes, list[bytes], list[bytes]], tuple[Argument, ...]]
"""Makes the command that runs a model, given its key and those of the inputs and outputs."""


class ExecutionCalls(DatasetCalls):
    """Models and scripts alike."""

    @reported
    def model_exists(self, name: str) -> bool:
        """Whether there is a model or script of that name."""
        check_type(name, "name", str)
        return self._exists(self._placed(self._read_key("model", name))[0])

    @reported
    def poll_model(self, name: str, poll_frequency_ms: int, num_tries: int) -> bool:
        """Wait until there is a model or script of that name; as `poll_tensor`."""
        check_type(name, "name", str)
        key = self._placed(self._read_key("model", name))[0]
        return self._wait_for(lambda: self._exists(key), poll_frequency_ms, num_tries)

    def _delete(self, command: bytes, copies: list[str]) -> None:
        keys = [key for name in copies for key in self._placed(self._read_key("model", name))]
        self._calls([Command(key, (command, key)) for key in keys])

    def _placed(self, key: bytes) -> list[bytes]:
        """The keys of a model's copies: its own, or on a cluster one a shard."""
        if not self._topology.clustered:
            return [key]
        return [b"{" + tag + b"}." + key for tag in self._topology.tags()]

    def _execute(
        self,
        model: bytes,
        inputs: list[str],
        outputs: list[str],
        command: Compose,
    ) -> None:
        sources = [self._read_key("tensor", name) for name in inputs]
        targets = [self._write_key("tensor", name) for name in outputs]
        if isinstance(self._topology, Cluster):
            self._execute_on_shard(self._topology.nearest_tag(sources), model, sources, targets, command)
            return
        arguments = command(model, sources, targets)
        ran(self._call(model, *arguments, b"TIMEOUT", self._model_timeout, timeout=_NO_LIMIT))

    def _execute_on_shard(
        self,
        tag: bytes,
        model: bytes,
        sources: list[bytes],
        targets: list[bytes],
        command: Compose,
    ) -> None:
        """Run on the shard of a tag although the tensors are anywhere: as a graph, in which they have names of its own."""
        home = b"{" + tag + b"}"
        local_sources = [b"%b.in.%d" % (home, i) for i in range(len(sources))]
        local_targets = [b"%b.out.%d" % (home, i) for i in range(len(targets))]
        tensors = self._calls([tensor_get(key) for key in sources])
        steps: list[tuple[Argument, ...]] = [
            *(tensor_reset(key, reply) for key, reply in zip(local_sources, tensors, strict=True)),
            command(home + b"." + model, local_sources, local_targets),
            *(tensor_get(key).arguments for key in local_targets),
        ]
        graph = [part for step in steps for part in (b"|>", *step)]
        head = (b"AI.DAGEXECUTE", b"ROUTING", home, b"TIMEOUT", self._model_timeout)
        replies: Reply = self._call(home, *head, *graph, timeout=_NO_LIMIT)
        ran(replies)
        for reply in replies:
            if isinstance(reply, ReplyError):
                raise reply
        results = replies[len(sources) + 1 :]
        self._calls([Command(key, tensor_reset(key, reply)) for key, reply in zip(targets, results, strict=True)])


def scope(word: bytes, keys: list[bytes]) -> tuple[Argument, ...]:
    """Keys as a command takes them: the word, their number, themselves."""
    return (word, len(keys), *keys)


def gpu_copies(name: str, gpus: range) -> list[tuple[str, str]]:
    """Names and devices of a model's copies; the plain name comes last, on the first GPU."""
    return [*((f"{name}.GPU:{gpu}", f"GPU:{gpu}") for gpu in gpus), (name, f"GPU:{gpus.start}")]


def gpu_name(name: str, offset: int, first_gpu: int, num_gpus: int) -> str:
    """Name of the copy that the caller number `offset` uses: callers take the GPUs in turn."""
    check_type(offset, "offset", int)
    gpus = gpu_range(first_gpu, num_gpus)
    return f"{name}.GPU:{gpus[offset % num_gpus]}"
