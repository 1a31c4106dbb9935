"""The examples that need Debian packages: LAMMPS, an MPI, hiredis."""

from __future__ import annotations

import re
from collections.abc import Callable


def test_a_crystal_melts_when_it_is_hot_enough(drive: Callable[..., str]) -> None:
    states = re.findall(r"(\d\.\d) +[\d.]+ +[\d.]+  (solid|liquid)", drive("lammps/driver.py"))
    assert [state for _, state in states] == ["solid", "solid", "liquid", "liquid", "liquid", "liquid"]


def test_members_run_with_two_ranks_each(drive: Callable[..., str]) -> None:
    assert drive("mpi/driver.py").count("'ranks': 2, 'mean': 0.5") == 3


def test_a_member_in_c_runs_a_model_in_the_database(drive: Callable[..., str]) -> None:
    answers = re.findall(r"the model says ([\d.]+), the formula ([\d.]+)", drive("hiredis/driver.py"))
    assert len(answers) == 6
    assert all(abs(float(model) - float(formula)) < 1e-4 for model, formula in answers)
