"""Programs that are run beside a driver."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

import psutil

from taskensemble.errors import ShellError

OUT = ERR = subprocess.PIPE


def execute_cmd(
    cmd_list: Sequence[str],
    shell: bool = False,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    proc_input: str = "",
    timeout: float | None = None,
) -> tuple[int, str, str]:
    """Run a program to its end.

    Parameters:
        shell: let a shell read the command.
        cwd: the folder that it runs in; None: this one.
        env: its whole environment; None: this one's.
        proc_input: what it reads.
        timeout: seconds after which it is ended; None: none.

    Returns:
        Its return code, output and errors.

    Raises:
        ShellError: it cannot be started, or has not ended in time.
    """
    command = " ".join(cmd_list) if shell else list(cmd_list)
    try:
        done = subprocess.run(
            command,
            shell=shell,
            cwd=cwd,
            env=env,
            input=proc_input,
            timeout=timeout,
            capture_output=True,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ShellError(
            f"{' '.join(cmd_list)}: Failed to execute command, timeout of {timeout} seconds expired"
        ) from error
    except OSError as error:
        raise ShellError(
            f"{' '.join(cmd_list)}: Exception while attempting to start a shell process: {error}"
        ) from error
    return done.returncode, done.stdout, done.stderr


def execute_async_cmd(
    cmd_list: Sequence[str],
    cwd: str | os.PathLike[str],
    env: Mapping[str, str] | None = None,
    out: int = OUT,
    err: int = ERR,
) -> psutil.Popen:
    """Start a program.

    Raises:
        ShellError: it cannot be started, or failed at once.
    """
    try:
        process = psutil.Popen(list(cmd_list), cwd=cwd, env=env, stdout=out, stderr=err, text=True)
        process.wait(timeout=0.2)
    except psutil.TimeoutExpired:
        return process
    except OSError as error:
        raise ShellError(f"{' '.join(cmd_list)}: Failed to run command: {error}") from error
    if process.returncode:
        errors = process.communicate()[1]
        raise ShellError(
            f"{' '.join(cmd_list)}: Command failed immediately with return code {process.returncode}: {errors}"
        )
    return process


__all__ = ["ShellError", "execute_async_cmd", "execute_cmd"]
