"""Doer: a member's folder, from its record: files copied, linked and configured."""

from taskensemble.generation.folders import generate_all, generate_member, member_folder
from taskensemble.generation.tags import check_file, configure

__all__ = ["check_file", "configure", "generate_all", "generate_member", "member_folder"]
