"""Doer: a member's folder, from its record: files copied, linked and configured."""

from taskensemble.generation.folders import (
    RECORD,
    RESULT,
    folder_path,
    generate_all,
    generate_member,
    is_passed_on,
    keep_outputs,
    make_folder,
    member_folder,
)

__all__ = [
    "RECORD",
    "RESULT",
    "folder_path",
    "generate_all",
    "generate_member",
    "is_passed_on",
    "keep_outputs",
    "make_folder",
    "member_folder",
]
