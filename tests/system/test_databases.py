"""Databases on the real scheduler: on a node of their own, in a job of their own, as a cluster, and colocated."""

# ruff: noqa: E501 - drivers are written as a user writes them, in strings.

from __future__ import annotations

import os
import signal

from tests.system.conftest import Drive
from tests.system.slurm_cluster import SlurmCluster, stays, wait_until

CLIENT = """
import os
from redis import Redis, RedisCluster
host, port = os.environ["SSDB"].split(",")[0].split(":")
kind = RedisCluster if os.environ["SR_DB_TYPE"] == "Clustered" else Redis
client = kind(host=host, port=int(port))
client.set("from-" + os.environ["TASKENSEMBLE_MEMBER"], os.environ.get("SLURMD_NODENAME", ""))
print(os.environ["SLURMD_NODENAME"], client.get("from-" + os.environ["TASKENSEMBLE_MEMBER"]).decode(), os.environ["SSDB"])
"""


def test_a_database_takes_a_node_of_its_own_in_the_allocation_and_members_stay_off_it(drive: Drive) -> None:
    driver = drive(
        f"""
        exp = Experiment("own", launcher="slurm")
        db = exp.create_database(port=0, interface="lo")
        rs = exp.create_run_settings(sys.executable, ["-c", {CLIENT!r}])
        ens = exp.create_ensemble("users", run_settings=rs, replicas=6)
        exp.start(db, ens, quiet=True)
        steps = os.popen("squeue --steps --noheader --format='%j %N'").read().splitlines()
        tell(states=exp.get_status(ens), out=[Path(m.path, m.name + ".out").read_text().split() for m in ens], steps=steps)
        exp.stop(db)
        again = exp.create_model("wide", exp.create_run_settings("/bin/hostname", run_args={{"nodes": 2}}))
        exp.start(again, quiet=True)
        tell(states=exp.get_status(again), database=exp.get_status(db), steps=os.popen("squeue --steps --noheader --format=%j").read())
        """,
        *("salloc", "--quiet", "-N2", "--exclusive"),
    )
    told = driver.result()
    assert told["states"] == ["Completed"] * 6
    assert {out[0] for out in told["out"]} == {"n1"}
    assert all(out[0] == out[1] for out in told["out"])
    assert "database-orchestrator n2" in told["steps"]
    told = driver.result()
    assert told["states"] == ["Completed"]
    assert told["database"] == ["Cancelled"]
    assert "database" not in told["steps"]


def test_a_database_runs_in_a_job_of_its_own_which_ends_when_it_is_stopped(drive: Drive, slurm: SlurmCluster) -> None:
    driver = drive(
        f"""
        exp = Experiment("job", launcher="slurm")
        db = exp.create_database(port=0, interface="lo", batch=True, time="00:05:00")
        rs = exp.create_run_settings(sys.executable, ["-c", {CLIENT!r}])
        ens = exp.create_ensemble("users", run_settings=rs, replicas=2, batch_settings=exp.create_batch_settings(nodes=1, time="00:05:00"))
        exp.start(db, quiet=True)
        tell(database=exp.get_status(db))
        exp.start(ens, quiet=True)
        tell(states=exp.get_status(ens), out=[Path(m.path, m.name + ".out").read_text().split() for m in ens])
        exp.stop(db)
        tell(database=exp.get_status(db))
        """
    )
    assert driver.result()["database"] == ["Running"]
    assert len(slurm.jobs()) == 1
    told = driver.result()
    assert told["states"] == ["Completed"] * 2
    assert all(out[0] == out[1] for out in told["out"])
    assert driver.result()["database"] == ["Cancelled"]
    assert driver.end() == 0
    wait_until(lambda: not slurm.jobs(), 30, "the database's job ends")


SHARDS = """
from taskensemble.database.connection import connected
def node_of(pid):
    return next((word.partition("=")[2] for word in Path(f"/proc/{pid}/environ").read_text().split(chr(0)) if word.startswith("SLURMD_NODENAME=")), "")
def shard(address):
    with connected(address) as client:
        facts = client.info("cluster") | client.info("server")
        state = dict(line.split(":") for line in client.ask("CLUSTER", "INFO").decode().split())
        return [node_of(facts["process_id"]), state["cluster_state"], int(state["cluster_slots_ok"]), int(state["cluster_known_nodes"])]
"""


def test_the_shards_of_a_cluster_have_nodes_of_their_own_and_are_healthy_before_members_start(drive: Drive) -> None:
    driver = drive(
        f"""
        exec({SHARDS!r})
        exp = Experiment("three", launcher="slurm")
        db = exp.create_database(port=0, interface="lo", db_nodes=3)
        rs = exp.create_run_settings(sys.executable, ["-c", {CLIENT!r}])
        ens = exp.create_ensemble("users", run_settings=rs, replicas=4)
        exp.start(db, ens, quiet=True)
        tell(states=exp.get_status(ens), addresses=db.get_address(), hosts=db.hosts, shards=[shard(address) for address in db.get_address()],
             out=[Path(m.path, m.name + ".out").read_text().split() for m in ens], err=[Path(m.path, m.name + ".err").read_text() for m in ens])
        exp.stop(db)
        again = exp.create_model("wide", exp.create_run_settings("/bin/hostname", run_args={{"nodes": 4}}))
        exp.start(again, quiet=True)
        tell(states=exp.get_status(again), steps=os.popen("squeue --steps --noheader --format=%j").read())
        """,
        *("salloc", "--quiet", "-N4", "--exclusive"),
    )
    told = driver.result(120)
    assert told["states"] == ["Completed"] * 4, told["err"]
    assert told["hosts"] == ["n2", "n3", "n4"]
    assert told["shards"] == [[node, "ok", 16384, 3] for node in ("n2", "n3", "n4")]
    assert len(set(told["addresses"])) == 3
    assert {out[0] for out in told["out"]} == {"n1"}
    assert all(out[2].split(",") == told["addresses"] for out in told["out"])
    told = driver.result(60)
    assert told["states"] == ["Completed"]
    assert "database" not in told["steps"]


def test_a_cluster_in_a_batch_job_goes_round_its_nodes(drive: Drive, slurm: SlurmCluster) -> None:
    driver = drive(
        f"""
        exec({SHARDS!r})
        exp = Experiment("spread", launcher="slurm")
        db = exp.create_database(port=0, interface="lo", db_nodes=3, batch=True, time="00:05:00")
        db.batch_settings.set_nodes(2)
        exp.start(db, quiet=True)
        tell(hosts=db.hosts, shards=[shard(address) for address in db.get_address()])
        exp.stop(db)
        """
    )
    told = driver.result(120)
    assert len(told["hosts"]) == 2
    assert [entry[0] for entry in told["shards"]] == [*told["hosts"], told["hosts"][0]]
    assert all(entry[1:] == ["ok", 16384, 3] for entry in told["shards"])
    assert driver.end() == 0
    wait_until(lambda: not slurm.jobs(), 30, "the database's job ends")


def test_a_colocated_database_runs_beside_its_member_in_the_allocation(drive: Drive) -> None:
    driver = drive(
        f"""
        exp = Experiment("colocated", launcher="slurm")
        model = exp.create_model("m", exp.create_run_settings(sys.executable, ["-c", {CLIENT!r}]))
        model.colocate_db_tcp(port=0, ifname="lo", db_cpus=1)
        exp.start(model, quiet=True)
        tell(states=exp.get_status(model), out=Path(model.path, "m.out").read_text().split(), err=Path(model.path, "m.err").read_text())
        """,
        *("salloc", "--quiet", "-N1", "--exclusive"),
    )
    told = driver.result()
    assert told["states"] == ["Completed"], told["err"]
    assert told["out"][2].startswith("127.0.0.1:")


def test_a_driver_that_is_killed_leaves_no_database_behind(drive: Drive, slurm: SlurmCluster) -> None:
    driver = drive(
        """
        exp = Experiment("killed", launcher="slurm")
        db = exp.create_database(port=0, interface="lo")
        exp.start(db, quiet=True)
        tell(pid=os.getpid(), port=int(db.get_address()[0].rpartition(":")[2]))
        time.sleep(300)
        """,
        *("salloc", "--quiet", "-N2", "--exclusive"),
    )
    told = driver.result()
    slurm.run("kill", "-KILL", str(told["pid"]))
    wait_until(lambda: not slurm.jobs(), 40, "the allocation ends with its command")


OWN_JOB = """
exp = Experiment("watched", launcher="slurm")
db = exp.create_database(port=0, interface="lo", batch=True, time="00:10:00"{linger})
exp.start(db, quiet=True)
tell(pid=os.getpid(), checkpoint=db.checkpoint_file)
time.sleep(300)
"""


def test_a_databases_job_ends_when_its_driver_was_killed_and_nobody_uses_it(drive: Drive, slurm: SlurmCluster) -> None:
    driver = drive(OWN_JOB.format(linger=", linger=3"))
    told = driver.result()
    (job,) = slurm.jobs()
    # As long as the driver lives, however idle it is, so does its database.
    stays(lambda: list(slurm.jobs()) == [job], 7)
    os.kill(told["pid"], signal.SIGKILL)
    wait_until(lambda: not slurm.jobs(), 60, "the job ends long before its walltime")


def test_a_later_driver_reconnects_to_a_database_that_lingers_and_keeps_it(drive: Drive, slurm: SlurmCluster) -> None:
    first = drive(OWN_JOB.format(linger=", linger=15"))
    told = first.result()
    os.kill(told["pid"], signal.SIGKILL)
    first.process.wait()
    second = drive(
        f"""
        exp = Experiment("later", launcher="slurm")
        db = exp.reconnect_orchestrator({told["checkpoint"]!r})
        tell(active=db.is_active())
        time.sleep(22)
        tell(active=db.is_active())
        exp.stop(db)
        """
    )
    assert second.result()["active"]
    assert second.result()["active"]
    assert second.end() == 0
    wait_until(lambda: not slurm.jobs(), 60, "the job ends with its database")
