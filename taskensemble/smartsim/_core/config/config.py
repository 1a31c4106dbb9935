"""Settings that SmartSim's scripts read: environment variables with defaults, and where the database's programs are."""

from __future__ import annotations

import json
import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any

from taskensemble.database.server import AI_MODULE, server_binary
from taskensemble.errors import DatabaseError, InputError


class Config:
    """The settings, read anew at each look.

    RAI_PATH, REDIS_PATH and REDIS_CLI_PATH name another module, server and command-line client than ours, for those who read them
    here; what the package itself starts is named by TASKENSEMBLE_DB_SERVER.
    """

    @property
    def redisai(self) -> str:
        """Path of the module with the AI commands."""
        installed = os.environ.get("SMARTSIM_DEP_INSTALL_PATH")
        default = Path(installed, "lib", "redisai.so") if installed else AI_MODULE
        path = Path(os.environ.get("RAI_PATH", default)).resolve()
        if not path.is_file():
            raise InputError(
                f"RedisAI dependency not found at {path}: correct RAI_PATH, or unset it for the module of ours"
            )
        return str(path)

    @property
    def database_exe(self) -> str:
        """Path of the database server."""
        try:
            return _program("REDIS_PATH", server_binary())
        except DatabaseError as error:
            raise InputError(f"REDIS_PATH: {error}") from error

    @property
    def database_cli(self) -> str:
        """Path of a command-line client of databases."""
        found = next(filter(None, map(shutil.which, ("valkey-cli", "redis-cli"))), None)
        return _program("REDIS_CLI_PATH", found or "valkey-cli")

    @property
    def database_conf(self) -> str:
        """A configuration file for a database server that is started by hand: REDIS_CONF, or a plain one of ours.

        What the package itself starts does not read it: `set_db_conf` and its kin set a database up.
        """
        path = Path(os.environ.get("REDIS_CONF", Path(__file__).parent / "database.conf")).resolve()
        if not path.is_file():
            raise InputError(
                f"REDIS_CONF: {path} is no file; correct it, or unset it for the one that comes with the package"
            )
        return str(path)

    @property
    def smartsim_key_path(self) -> str:
        """Folder for keys of SmartSim's Dragon launcher. Nothing here writes to it: there is no such launcher."""
        return os.environ.get("SMARTSIM_KEY_PATH", str(Path.home() / ".smartsim" / "keys"))

    @property
    def dragon_server_path(self) -> str | None:
        """Folder of SmartSim's Dragon server; None: none is set. Nothing here reads it."""
        return os.environ.get("SMARTSIM_DRAGON_SERVER_PATH", os.environ.get("SMARTSIM_DRAGON_SERVER_PATH_EXP"))

    @property
    def database_file_parse_trials(self) -> int:
        """Looks at a database's files before they are given up."""
        return int(os.environ.get("SMARTSIM_DB_FILE_PARSE_TRIALS") or 10)

    @property
    def database_file_parse_interval(self) -> int:
        """Seconds between two of them."""
        return int(os.environ.get("SMARTSIM_DB_FILE_PARSE_INTERVAL") or 2)

    @property
    def log_level(self) -> str:
        """Of SmartSim's loggers: quiet, info, debug or developer."""
        return os.environ.get("SMARTSIM_LOG_LEVEL", "info")

    @property
    def jm_interval(self) -> int:
        """Seconds between two looks at a scheduler."""
        return int(os.environ.get("SMARTSIM_JM_INTERVAL") or 10)

    @property
    def wlm_trials(self) -> int:
        """Attempts at a scheduler's command."""
        return int(os.environ.get("SMARTSIM_WLM_TRIALS") or 10)

    @property
    def telemetry_enabled(self) -> bool:
        """Whether experiments begin with telemetry switched on."""
        return int(os.environ.get("SMARTSIM_FLAG_TELEMETRY", "1")) > 0

    @property
    def telemetry_frequency(self) -> int:
        """Seconds between two samples of telemetry."""
        return int(os.environ.get("SMARTSIM_TELEMETRY_FREQUENCY", "5"))

    @property
    def telemetry_cooldown(self) -> int:
        """Seconds that telemetry goes on after the last member's end."""
        return int(os.environ.get("SMARTSIM_TELEMETRY_COOLDOWN", "90"))

    @property
    def telemetry_subdir(self) -> str:
        """Folder of telemetry within an experiment's."""
        return ".smartsim/telemetry"

    @property
    def test_launcher(self) -> str:
        """Launcher that a test suite uses."""
        return os.environ.get("SMARTSIM_TEST_LAUNCHER", "local")

    @property
    def test_device(self) -> str:
        """Device that a test suite runs ML models on."""
        return os.environ.get("SMARTSIM_TEST_DEVICE", "CPU")

    @property
    def test_num_gpus(self) -> int:
        """GPUs of the host."""
        return int(os.environ.get("SMARTSIM_TEST_NUM_GPUS") or 1)

    @property
    def test_ports(self) -> range:
        """Ports that a test suite may use: 25 or more."""
        first = int(os.environ.get("SMARTSIM_TEST_PORT", "6780"))
        return range(first, first + max(int(os.environ.get("SMARTSIM_TEST_NUM_PORTS", "25")), 25))

    @property
    def test_interface(self) -> list[str]:
        """Network interfaces that a test suite uses."""
        return os.environ.get("SMARTSIM_TEST_INTERFACE", "lo").split(",")

    @property
    def test_account(self) -> str | None:
        """Account of a scheduler that pays for a test suite."""
        return os.environ.get("SMARTSIM_TEST_ACCOUNT")

    @property
    def test_mpi(self) -> bool:
        """Whether a test suite compiles and runs MPI programs."""
        return int(os.environ.get("SMARTSIM_TEST_MPI", "1")) > 0

    @property
    def test_batch_resources(self) -> dict[Any, Any]:
        """Resources of the batch jobs of a test suite, as JSON in SMARTSIM_TEST_BATCH_RESOURCES."""
        text = os.environ.get("SMARTSIM_TEST_BATCH_RESOURCES", "{}")
        resources = json.loads(text)
        if not isinstance(resources, dict):
            raise TypeError(
                "SMARTSIM_TEST_BATCH_RESOURCES was not interpreted as a dictionary, check to make sure that it is a valid JSON "
                f"string: {text}"
            )
        return resources


@cache
def get_config() -> Config:
    """The one of this process."""
    return Config()


def _program(variable: str, default: str) -> str:
    found = shutil.which(os.environ.get(variable, default))
    if found is None:
        raise InputError(f"{variable}: Specified binary {os.environ.get(variable, default)!r} could not be used")
    return os.path.abspath(found)
