"""Doer: a member's folder, from its record: files copied, linked and configured."""

from taskensemble.generation.folders import RECORD, RESULT, generate_all, generate_member, keep_outputs, member_folder

__all__ = ["RECORD", "RESULT", "generate_all", "generate_member", "keep_outputs", "member_folder"]
