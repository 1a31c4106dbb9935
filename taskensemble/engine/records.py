"""The records: what travels to the workers and what the store keeps.

A record is plain, validated and immutable, and knows nothing of Experiment, Model or Ensemble. `plan.py` makes records from
descriptions; the engine stores them; workers act on them. One run is

    RunRecord          the run: who started it, its entities and templates, the databases it talks to
      EntityRecord     one started thing (a model, or an ensemble): what is counted, waited for and stopped as one
      TemplateRecord   how to run a member: command, environment, files, resources, policy, databases, assets
    MemberRecord       one program to run: its template, name, parameters and further arguments

Members of an ensemble share a template, so 100,000 of them cost 100,000 small MemberRecords. All sizes are in bytes, times in
seconds, unless a name says otherwise. Paths are absolute.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = 1
"""Version of everything in this file. A worker refuses claims of a run with another one."""


class State(StrEnum):
    """Where a member, an entity or a run stands. COMPLETED, FAILED and CANCELLED are final."""

    NEW = "New"
    QUEUED = "Queued"
    RUNNING = "Running"
    PAUSED = "Paused"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    NEVER_STARTED = "NeverStarted"

    @property
    def final(self) -> bool:
        """Whether the state can no longer change."""
        return self in (State.COMPLETED, State.FAILED, State.CANCELLED)


class Record(BaseModel):
    """Base of the records: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CommandRecord(Record):
    """A member's command line: `head + member's args + tail`.

    `head` holds the run command, its arguments, the program and its arguments; `tail` is empty but for MPMD, where it holds
    the further programs. A worker inside an allocation inserts placement options (`--nodelist=…`, `--host …`) after `head[0]`
    when `launcher` is not empty.
    """

    head: tuple[str, ...]
    tail: tuple[str, ...] = ()
    launcher: Literal["", "srun", "mpirun", "mpiexec", "orterun", "palsmpiexec", "aprun", "jsrun"] = ""
    nodes: int | None = None
    """Nodes that the run command asks for; None: not said."""
    tasks: int | None = None
    """Ranks in all; None: not said."""
    tasks_per_node: int | None = None
    cpus_per_task: int | None = None
    files: dict[str, str] = {}
    """Name → text of small files that the run command reads from the member's folder, such as an explicit resource file."""


class FilesRecord(Record):
    """What is put into a member's folder before its program starts, in this order."""

    copy_: tuple[str, ...] = Field(default=(), alias="copy")
    symlink: tuple[str, ...] = ()
    configure: tuple[str, ...] = ()
    tag: str = ";"
    allow_unknown_tags: bool = False

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class ResourcesRecord(Record):
    """The share of a node that a member holds while it runs."""

    cpus: int = 1
    """On each of its nodes."""
    nodes: int = 1
    """Nodes of an allocation that it runs on; a worker of one node runs it whatever is said here."""
    gpus: float = 0.0
    """Whole GPUs, or a fraction of one; on each of its nodes."""
    memory_mb: int = 0
    """MiB; 0: not limited."""
    whole_node: bool = False
    tags: tuple[str, ...] = ()
    """A worker must carry all of them."""
    het_groups: tuple[int, ...] = ()
    """Components of a heterogeneous job that it runs on, `nodes` of each; empty: on one of them."""
    time: float = 0.0
    """Seconds that its worker must have left when it begins; 0: however few."""
    allocated: bool = False
    """Its worker must be in an allocation of a scheduler."""

    @property
    def resource_class(self) -> str:
        """Name of the class: members of one class wait in one queue."""
        gpus = f"{self.gpus:g}".replace(".", "_")
        parts = [f"c{self.cpus}"]
        if self.nodes > 1:
            parts.append(f"n{self.nodes}")
        if self.gpus:
            parts.append(f"g{gpus}")
        if self.memory_mb:
            parts.append(f"m{self.memory_mb}")
        if self.whole_node:
            parts.append("node")
        parts.extend(f"h{group}" for group in self.het_groups)
        if self.time:
            parts.append(f"s{math.ceil(self.time)}")
        if self.allocated:
            parts.append("job")
        parts.extend(f"t-{tag}" for tag in sorted(self.tags))
        return ".".join(parts)


class PolicyRecord(Record):
    """What happens around an attempt: limits before it, decisions after it."""

    retries: int = 0
    """How many further attempts a failed member gets."""
    retry_delay: float = 0.0
    retry_on: tuple[int, ...] | None = None
    """Exit codes that are retried; None: any but 0. A negative number is a signal, as in subprocess."""
    restart_args: tuple[str, ...] | None = None
    """Arguments that replace the program's own from the second attempt on; None: the same."""
    walltime: float | None = None
    warn_before: float | None = None
    """SIGUSR1 goes to the member this long before its walltime."""
    grace: float = 10.0
    """Between SIGTERM and SIGKILL."""
    output_limit: int | None = None
    """Most bytes kept of each of .out and .err; None: all."""
    keep_outputs: Literal["all", "failed"] = "all"


class AssetRecord(Record):
    """An ML model, a script or a function, by the hash of its content."""

    name: str
    kind: Literal["model", "script"]
    backend: Literal["TF", "TFLITE", "TORCH", "ONNX"] = "TORCH"
    device: str = "CPU"
    """CPU, GPU, GPU:n."""
    devices_per_node: int = 1
    first_device: int = 0
    batch_size: int = 0
    min_batch_size: int = 0
    min_batch_timeout: int = 0
    """Milliseconds."""
    tag: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    digest: str
    """SHA-256 of the bytes, in hex."""
    size: int
    path: str | None = None
    """Where a worker reads the bytes, checked against `digest`; None: from the store, under the digest."""


class ColocatedRecord(Record):
    """A database that the worker starts on the member's node for the member."""

    transport: Literal["tcp", "unix"]
    port: int = 0
    """0: any free port."""
    interfaces: tuple[str, ...] = ("lo",)
    unix_socket: str | None = None
    """None: a socket of its own in a short local path."""
    socket_permissions: int = 0o755
    cpus: int = 1
    custom_pinning: tuple[int, ...] | None = None
    debug: bool = False
    settings: dict[str, str] = {}
    """Configuration of the server: maxmemory, maxclients, …"""
    shared: bool = False
    """One database for all members of the entity on a node (key prefixing on, equal assets)."""


class DatabaseUseRecord(Record):
    """One database that a member's environment points to. The address is looked up at each attempt."""

    identifier: str
    """Empty for the unnamed database: SSDB without a suffix."""
    suffix: str = ""
    """What follows `SSDB_` in the environment; empty: SSDB itself."""
    colocated: ColocatedRecord | None = None


class DatabaseAddressRecord(Record):
    """Where a running database answers: what the store keeps under its identifier."""

    identifier: str
    addresses: tuple[str, ...]
    """`host:port`, or `unix://path`; one for each shard of a cluster."""
    cluster: bool = False
    external: bool = False
    """Somebody else runs it: it is never stopped."""
    processes: tuple[int, ...] = ()
    """Pids on `host`: the servers' when they began, their supervisor's, and those of the guards that start them again."""
    begun: tuple[int, ...] = ()
    """When each of them began, in clock ticks after boot: a pid that something else has got since is left alone."""
    host: str = ""
    user: str = ""
    """Whose password it is; empty: the default user's."""
    password: str | None = None
    """None: none is needed. Members are not told it."""


class TemplateRecord(Record):
    """How to run a member."""

    command: CommandRecord
    env: dict[str, str | None] = {}
    """Set over the worker's environment; None removes the variable there."""
    secrets: tuple[str, ...] = ()
    """Variables of `env` whose values are not in the record: the store keeps them under `<number of the template>:<name>`."""
    files: FilesRecord = FilesRecord()
    resources: ResourcesRecord = ResourcesRecord()
    policy: PolicyRecord = PolicyRecord()
    databases: tuple[DatabaseUseRecord, ...] = ()
    assets: tuple[AssetRecord, ...] = ()
    key_prefixing: bool = False
    incoming: tuple[str, ...] = ()
    """Names that SSKEYIN lists, in the order of registration."""
    batch_queue: str = ""
    """Workers of this name alone take the members (an allocation's queue); empty: any worker."""


class EntityRecord(Record):
    """One started thing. Its members are counted in by a chord; at zero its completion runs."""

    index: int
    name: str
    kind: Literal["Model", "Ensemble"]
    path: str
    first: int
    """Index of its first member in the run; its members are contiguous."""
    size: int
    after: tuple[int, ...] = ()
    """Entities that must have ended COMPLETED before this one's members are enqueued."""
    on_failure: str = "continue"
    """`continue`, `stop` (cancel what waits and runs of this entity), or `stop:<n>` after n failures."""
    enough: int | None = None
    """Stop the rest once so many members have completed; None: run all."""
    together: bool = False
    """All members run at the same time or none starts."""
    generated: bool = False
    """Its members' folders were made ahead: they are left as they are."""


class MemberRecord(Record):
    """One program to run."""

    index: int
    entity: int
    template: int
    name: str
    params: dict[str, str] = {}
    args: tuple[str, ...] = ()
    path: str | None = None
    """Its folder; None: the entity's path for a model, `<entity's path>/<name>` for a member of an ensemble."""
    signature: str = ""
    """Of the text of the other fields, see signing.py; the store writes it."""


class TransferFileRecord(Record):
    """A file that travels, or what else is in a member's folder."""

    path: str
    """Relative to the input, or to the member's folder."""
    kind: Literal["file", "folder", "link", "gone"] = "file"
    """`gone`: an input that the member has deleted."""
    size: int = 0
    digest: str = ""
    """SHA-256 of the bytes, in hex."""
    mode: int = 0o644
    target: str = ""
    """Of a link."""


class InputRecord(Record):
    """A file or folder that members get."""

    source: str
    """Its path on the driver's machine, as the templates' files name it."""
    folder: bool = False
    files: tuple[TransferFileRecord, ...] = ()
    """Their bytes are stored under their digests."""
    folders: tuple[str, ...] = ()


class TransferRecord(Record):
    """How files travel where the workers do not share the driver's file system."""

    limit: int
    """Most bytes of what one member sends back."""
    url: str = ""
    """Store of the bytes, as fsspec names it; empty: the record store."""
    inputs: tuple[InputRecord, ...] = ()


class OutputsRecord(Record):
    """What an attempt has left in its member's folder, beyond what was put there."""

    attempt: int
    content: str
    """Name of the bytes of all files, one after the other in the order of `entries`: `<index of the member>.<attempt>`."""
    entries: tuple[TransferFileRecord, ...]
    signature: str = ""
    """Of the text of the other fields, see signing.py; the store writes it."""


class RunRecord(Record):
    """One start."""

    schema_version: Literal[1] = 1
    run_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
    experiment: str
    path: str
    """The experiment's folder."""
    created: float
    """Unix time on the driver's clock."""
    entities: tuple[EntityRecord, ...]
    templates: tuple[TemplateRecord, ...]
    overwrite: bool = False
    generate: bool = True
    """Whether members' tasks make their folders; False: `Experiment.generate` made them ahead."""
    driver: str = ""
    """host:pid of the driver, a space, and the path of its script; the path is missing where there is none."""
    versions: dict[str, str] = {}
    keep: float = 7 * 86400.0
    """The record expires so long after the run ended."""
    wait_for_worker: float = 3600.0
    """Seconds that members wait while no registered worker could ever run them; then they have failed. 0: for ever."""
    parent: str | None = None
    """The run that this one resumes, or whose next round it is."""
    transfer: TransferRecord | None = None
    """None: workers share the driver's file system."""
    signature: str = ""
    """Of the text of the other fields, see signing.py; the store writes it."""

    @property
    def size(self) -> int:
        """Members in all."""
        return sum(entity.size for entity in self.entities)

    @property
    def needs_allocation(self) -> bool:
        """Whether some of its members run in an allocation alone that is no batch job of theirs."""
        return any(template.resources.allocated for template in self.templates)


class AttemptRecord(Record):
    """What is known of a member: its state, and of its latest attempt the rest."""

    index: int
    state: State
    attempt: int = 0
    """Attempts begun; 0: none yet."""
    worker: str = ""
    node: str = ""
    pid: int = 0
    started: float | None = None
    ended: float | None = None
    returncode: int | None = None
    reason: str = ""
    slots: tuple[int, ...] = ()
    """CPUs it ran on."""


class EventRecord(Record):
    """One entry of a run's event stream."""

    id: str
    kind: Literal["run", "assets", "start", "end", "retry", "entity"]
    state: State | None = None
    index: int | None = None
    entity: int | None = None
    attempt: int | None = None
    returncode: int | None = None
    reason: str = ""
    time: float = 0.0
    """Unix time on the store's clock."""


class RunStatus(Record):
    """A run as its counters tell it: cheap, whatever its size."""

    run_id: str
    experiment: str
    state: State
    reason: str = ""
    size: int
    queued: int
    running: int
    completed: int
    failed: int
    cancelled: int
    created: float
    started: float | None = None
    ended: float | None = None


class Counters(Record):
    """How many members of an entity stand where, and how the entity itself does."""

    queued: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    reason: str = ""
    started: float | None = None
    ended: float | None = None


class WorkerRecord(Record):
    """A worker as it registered itself."""

    name: str
    host: str
    pid: int
    boot: str = ""
    """The node's boot id: with the pid and `pid_start` it names one process for ever."""
    pid_start: int = 0
    """Start time of the process in clock ticks after boot."""
    schema_version: int = SCHEMA
    slots: int
    """CPUs that members can hold."""
    free: int
    gpus: tuple[str, ...] = ()
    nodes: tuple[tuple[int, int, int], ...] = ()
    """Of a worker of a whole allocation: how many nodes with how many CPUs and GPUs members can hold there."""
    memory_mb: int = 0
    tags: tuple[str, ...] = ()
    queue: str = ""
    """The batch queue that it serves alone; empty: all others."""
    job: str = ""
    """Id of the scheduler's job that it is in; empty: it is in none."""
    lifetime: float | None = None
    """Seconds that it had when it began, until its job's time or its own limit is up; None: no end is known."""
    left: float | None = None
    """What was left of them at its last beat."""
    running: int = 0
    rooms: dict[str, int] = Field(default_factory=dict)
    """How many members of each queue that it reads would find room now, where any would."""
    beat: int = 0
    """A counter that the worker keeps moving."""
    seen: float = 0.0
    """Unix time of the last beat on the store's clock."""
    age: float = 0.0
    """Seconds since then, when it was read."""
    lease: float = 180.0
    """Seconds after which its attempts are lost when their counters stand still."""


class QueueRecord(Record):
    """A queue of a run that has members of one resource class."""

    name: str
    run: str
    resources: ResourcesRecord
    batch_queue: str = ""
    together: bool = False
    """Its members are of entities that run together."""
