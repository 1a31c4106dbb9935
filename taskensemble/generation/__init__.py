"""Doer: a member's folder, from its record: files copied, linked and configured."""

from taskensemble.generation.folders import generate_all, generate_member, member_folder

__all__ = ["generate_all", "generate_member", "member_folder"]
