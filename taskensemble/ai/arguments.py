"""Checks of arguments, with SmartRedis' errors."""

from __future__ import annotations

import os


def check_type(value: object, name: str, kind: type | tuple[type, ...]) -> None:
    """Raise SmartRedis' TypeError unless the argument has the type asked for."""
    if not isinstance(value, kind):
        raise TypeError(f"Argument {name} is of type {type(value)}, not {kind}")


def check_named(value: object, name: str) -> None:
    """Raise unless the argument is a text with something in it.

    Raises:
        TypeError: it is no text.
        ValueError: it is empty.
    """
    check_type(value, name, str)
    if not value:
        raise ValueError(f"Argument {name} is an empty string: give a name")


def names(value: str | list[str] | None) -> list[str]:
    """One name, several, or none, as a list."""
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    check_names(value, "inputs and outputs")
    return value


def check_names(value: object, name: str) -> None:
    """Raise SmartRedis' TypeError unless the argument is a list of texts."""
    check_type(value, name, list)
    assert isinstance(value, list)
    for element in value:
        check_type(element, f"{name}: an element", str)


def checked_device(device: str) -> str:
    """The device in upper case.

    Raises:
        TypeError: it begins with neither CPU nor GPU.
    """
    check_type(device, "device", str)
    device = device.upper()
    if not device.startswith(("CPU", "GPU")):
        raise TypeError(f"Device argument must start with either CPU or GPU, not {device}")
    return device


def checked_file(path: str, name: str) -> str:
    """The absolute path of an existing file.

    Raises:
        FileNotFoundError: there is none.
    """
    check_type(path, name, str)
    path = os.path.abspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(path)
    return path


def gpu_range(first_gpu: int, num_gpus: int) -> range:
    """The GPUs that a model is kept on.

    Raises:
        ValueError: a negative first one, or none at all.
    """
    check_type(first_gpu, "first_gpu", int)
    check_type(num_gpus, "num_gpus", int)
    if first_gpu < 0:
        raise ValueError(f"first_gpu must be a non-negative integer, not {first_gpu}.")
    if num_gpus < 1:
        raise ValueError(f"num_gpus must be a positive integer, not {num_gpus}.")
    return range(first_gpu, first_gpu + num_gpus)
