"""Two-rank programs under Debian's Open MPI and MPICH: on this machine, and on two nodes of an allocation."""

# ruff: noqa: E501 - drivers are written as a user writes them, in strings.

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.system.conftest import Drive

PROGRAM = r"""
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int rank, size, sum;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    const char *node = getenv("SLURMD_NODENAME"), *colour = getenv("COLOUR"), *member = getenv("TASKENSEMBLE_MEMBER");
    printf("rank %d of %d sum %d node %s colour %s member %s\n", rank, size, sum, node ? node : "-", colour ? colour : "-",
           member ? member : "-");
    fflush(stdout);
    sleep(argc > 1 ? atoi(argv[1]) : 0);
    MPI_Finalize();
    return 0;
}
"""


@pytest.fixture(scope="module", params=["openmpi", "mpich"])
def mpi(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one implementation's `mpirun` and `mpiexec` first on PATH, and the program built for it."""
    flavour = str(request.param)
    compiler = shutil.which(f"mpicc.{flavour}")
    if compiler is None or shutil.which(f"mpirun.{flavour}") is None:
        pytest.skip(f"{flavour} is not installed; run tests/system/install.sh")
    folder = tmp_path_factory.mktemp(flavour)
    for name in ("mpirun", "mpiexec"):
        # A link would make MPICH look for its proxy beside the link.
        (folder / name).write_text(f'#!/bin/sh\nexec {shutil.which(f"{name}.{flavour}")} "$@"\n')
        (folder / name).chmod(0o755)
    (folder / "ranks.c").write_text(PROGRAM)
    subprocess.run([compiler, "-o", str(folder / "ranks"), str(folder / "ranks.c")], check=True)
    return folder


@pytest.mark.parametrize("command", ["mpirun", "mpiexec"])
def test_a_program_of_two_ranks_runs_with_its_variables(drive: Drive, mpi: Path, command: str) -> None:
    driver = drive(
        f"""
        os.environ["PATH"] = {str(mpi)!r} + ":" + os.environ["PATH"]
        exp = Experiment("ranks", slots=2)
        rs = exp.create_run_settings({str(mpi / "ranks")!r}, run_command={command!r}, env_vars={{"COLOUR": "red"}})
        rs.set_tasks(2)
        model = exp.create_model("m", rs)
        exp.start(model, quiet=True)
        tell(states=exp.get_status(model), out=Path(model.path, "m.out").read_text(), err=Path(model.path, "m.err").read_text())
        """
    )
    told = driver.result()
    assert told["states"] == ["Completed"], told["err"]
    lines = sorted(line.split() for line in told["out"].splitlines())
    assert [(line[1], line[3], line[5], line[9], line[11]) for line in lines] == [
        ("0", "2", "1", "red", "m"),
        ("1", "2", "1", "red", "m"),
    ]


def test_two_jobs_of_two_nodes_run_side_by_side_in_an_allocation(drive: Drive, mpi: Path) -> None:
    driver = drive(
        f"""
        os.environ["PATH"] = {str(mpi)!r} + ":" + os.environ["PATH"]
        exp = Experiment("side", launcher="slurm")
        rs = exp.create_run_settings({str(mpi / "ranks")!r}, "2", run_command="mpirun", env_vars={{"COLOUR": "red"}})
        rs.set_tasks(2)
        ens = exp.create_ensemble("e", run_settings=rs, replicas=2, resources={{"cpus": 1, "nodes": 2}})
        began = time.monotonic()
        exp.start(ens, quiet=True)
        tell(states=exp.get_status(ens), took=time.monotonic() - began, rows=[(r["started"], r["ended"]) for r in exp.results()],
             out=[Path(m.path, m.name + ".out").read_text() for m in ens], err=[Path(m.path, m.name + ".err").read_text() for m in ens])
        """,
        *("salloc", "--quiet", "-N2", "--exclusive"),
    )
    told = driver.result()
    assert told["states"] == ["Completed"] * 2, told["err"]
    for out in told["out"]:
        lines = sorted(line.split() for line in out.splitlines())
        assert [(line[1], line[3]) for line in lines] == [("0", "2"), ("1", "2")]
        assert {line[7] for line in lines} == {"n1", "n2"}
        assert {line[9] for line in lines} == {"red"}
    (first, second) = told["rows"]
    assert max(first[0], second[0]) < min(first[1], second[1])
