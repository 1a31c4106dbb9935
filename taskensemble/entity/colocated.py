"""A database on the member's own node: what `colocate_db_tcp` and `colocate_db_uds` describe."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from taskensemble.checked import unknown_argument
from taskensemble.errors import InputError, InputTypeError, UnsupportedError
from taskensemble.server_settings import check_server_setting

_RAI_ARGUMENTS = ("threads_per_queue", "inter_op_parallelism", "intra_op_parallelism")
_RAI_NAMES = {"inter_op_threads": "inter_op_parallelism", "intra_op_threads": "intra_op_parallelism"}


@dataclass(frozen=True)
class ColocatedDatabase:
    """A database that the worker starts on the member's node before the program, and ends with it.

    Attributes:
        transport: tcp or unix.
        port: where it listens for tcp.
        interfaces: network interfaces for tcp.
        unix_socket: the socket's path; None: one of its own in a short local path.
        socket_permissions: of the socket, as a number such as 0o755.
        cpus: CPUs that it may use.
        pinning: the CPUs it is bound to; None: the worker chooses `cpus` of its own; empty: none.
        debug: whether it logs more.
        identifier: what follows SSDB_ in the environment; empty: SSDB itself.
        settings: further configuration of the server and of the inference.
    """

    transport: Literal["tcp", "unix"]
    port: int = 0
    interfaces: tuple[str, ...] = ("lo",)
    unix_socket: str | None = None
    socket_permissions: int = 0o755
    cpus: int = 1
    pinning: tuple[int, ...] | None = None
    debug: bool = False
    identifier: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def tcp(
        cls,
        port: int,
        ifname: object,
        db_cpus: int,
        custom_pinning: object,
        debug: bool,
        db_identifier: str,
        db_settings: Mapping[str, Any],
    ) -> ColocatedDatabase:
        """A database on the loopback or another interface.

        Raises:
            InputError, InputTypeError: a value that cannot be used.
            UnsupportedError: `limit_app_cpus`, which run settings do.
        """
        if isinstance(port, bool) or not isinstance(port, int):
            raise InputTypeError(
                f"port={port!r} is a {type(port).__name__}; give a number from 0 (any free one) to 65535"
            )
        if not 0 <= port <= 65535:
            raise InputError(f"port={port}; give a number from 0 (any free one) to 65535")
        interfaces = (
            (ifname,) if isinstance(ifname, str) else tuple(ifname) if isinstance(ifname, (list, tuple)) else None
        )
        if not interfaces or not all(isinstance(name, str) for name in interfaces):
            raise InputTypeError(f"ifname={ifname!r}; give the name of a network interface, or a list of names")
        _check_settings("colocate_db_tcp", ("port", "ifname"), db_settings)
        common = _common(db_cpus, custom_pinning, debug, db_identifier, db_settings)
        return cls("tcp", port=port, interfaces=interfaces, **common)

    @classmethod
    def uds(
        cls,
        unix_socket: str | None,
        socket_permissions: int,
        db_cpus: int,
        custom_pinning: object,
        debug: bool,
        db_identifier: str,
        db_settings: Mapping[str, Any],
    ) -> ColocatedDatabase:
        """A database on a Unix socket. `socket_permissions` is read as octal digits: 755. A port in the settings has no effect.

        Raises:
            InputError, InputTypeError, UnsupportedError: as for tcp; a socket's path longer than the 107 bytes that one may have.
        """
        if unix_socket is not None and not isinstance(unix_socket, str):
            raise InputTypeError(f"unix_socket={unix_socket!r} is a {type(unix_socket).__name__}; give a path")
        if unix_socket is not None and len(unix_socket.encode()) > 107:
            raise InputError(
                f"unix_socket={unix_socket!r} is longer than the 107 bytes of a socket's path; give a shorter one"
            )
        if unix_socket is not None and not re.fullmatch(r"[\w.:,/-]+", unix_socket, re.ASCII):
            raise InputError(f"unix_socket={unix_socket!r} is no valid name; use letters, digits and . : , _ - /")
        digits = str(socket_permissions)
        if (
            isinstance(socket_permissions, bool)
            or not digits.isdigit()
            or set(digits) & {"8", "9"}
            or int(digits, 8) > 0o777
        ):
            raise InputError(f"socket_permissions={socket_permissions!r}; write the octal digits, such as 755")
        _check_settings("colocate_db_uds", ("unix_socket", "socket_permissions"), db_settings)
        # Drivers hand both kinds of database the same arguments, and SmartSim takes them.
        settings = {name: value for name, value in db_settings.items() if name not in ("port", "ifname")}
        common = _common(db_cpus, custom_pinning, debug, db_identifier, settings)
        return cls("unix", unix_socket=unix_socket, socket_permissions=int(digits, 8), **common)

    @property
    def pinning_text(self) -> str | None:
        """The CPUs that SmartSim would bind it to, as text; None: none."""
        cpus = range(self.cpus) if self.pinning is None else self.pinning
        return ",".join(str(cpu) for cpu in cpus) or None

    def described(self) -> dict[str, Any]:
        """The description in the form that SmartSim drivers read from `run_settings.colocated_db_settings`."""
        known: dict[str, Any] = (
            {"port": self.port, "ifname": self.interfaces[0] if len(self.interfaces) == 1 else list(self.interfaces)}
            if self.transport == "tcp"
            else {
                "unix_socket": self.unix_socket,
                "socket_permissions": int(f"{self.socket_permissions:o}"),
                # No server listens on a port then.
                "port": 0,
            }
        )
        return known | {
            "cpus": self.cpus,
            "custom_pinning": self.pinning_text,
            "debug": self.debug,
            "db_identifier": self.identifier,
            "rai_args": {name: self.settings.get(name) for name in _RAI_ARGUMENTS},
            "extra_db_args": {name: value for name, value in self.settings.items() if name not in _RAI_ARGUMENTS},
        }


def _check_settings(call: str, own: tuple[str, ...], settings: Mapping[str, Any]) -> None:
    """Refuse a misspelt argument, which would pass for a configuration of the server."""
    known = (*own, "db_cpus", "custom_pinning", "debug", "db_identifier", *_RAI_ARGUMENTS, *_RAI_NAMES)
    for name in settings:
        if name not in known and difflib.get_close_matches(name, known, 1, 0.85):
            raise InputTypeError(f"{call}: {unknown_argument(name, known)}, and configurations of the server")


def _common(cpus: int, pinning: object, debug: bool, identifier: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(cpus, bool) or not isinstance(cpus, int) or cpus < 1:
        raise InputError(f"db_cpus={cpus!r}; give a whole number of 1 or more")
    if not isinstance(identifier, str):
        raise InputTypeError(f"db_identifier={identifier!r} is a {type(identifier).__name__}; give text")
    if "limit_app_cpus" in settings:
        raise UnsupportedError(
            "limit_app_cpus: Pinning app CPUs via limit_app_cpus is not supported. Modify RunSettings using the correct binding "
            "option for your launcher."
        )
    for name in (*_RAI_ARGUMENTS, *_RAI_NAMES):
        check_threads(name, settings.get(name))
    given = {}
    for written, value in settings.items():
        name = _RAI_NAMES.get(written, written)
        if name not in _RAI_ARGUMENTS:
            # A keyword cannot have the hyphens of a server's configurations.
            name = name.replace("_", "-")
            check_server_setting(name, str(value))
        if value is not None:
            given[name] = str(value)
    return {
        "cpus": cpus,
        "pinning": pinned_cpus(pinning),
        "debug": bool(debug),
        "identifier": identifier,
        "settings": given,
    }


def check_threads(name: str, threads: object) -> int | None:
    """The number of threads of an inference; None, like 0: as many as the backend chooses.

    Raises:
        InputTypeError, InputError: it is no whole number, or below 0.
    """
    if threads is None:
        return None
    if isinstance(threads, bool) or not isinstance(threads, int):
        raise InputTypeError(f"{name}={threads!r} is a {type(threads).__name__}; give a whole number")
    if threads < 0:
        raise InputError(f"{name}={threads}; give 0 or more")
    return threads


def pinned_cpus(given: object) -> tuple[int, ...] | None:
    """The CPUs of a list of numbers and ranges, each once, in order."""
    if given is None:
        return None
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise InputTypeError(
            f"custom_pinning={given!r} is a {type(given).__name__}; give a list of CPU numbers and ranges"
        )
    nested = [[item] if not isinstance(item, Iterable) or isinstance(item, str) else item for item in given]
    cpus = list(itertools.chain.from_iterable(nested))
    for cpu in cpus:
        if isinstance(cpu, bool) or not isinstance(cpu, int):
            raise InputTypeError(f"custom_pinning: {cpu!r} is no CPU number; expected a cpu ID of type int")
        if cpu < 0:
            raise InputError(f"custom_pinning: {cpu}: CPU id must be a nonnegative number")
    return tuple(sorted(set(cpus)))
