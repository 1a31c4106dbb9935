"""Databases: what can be described, and what an inactive and a running one answer."""

import pytest

from taskensemble.entity import Database, DatabaseNode
from taskensemble.errors import DatabaseError, InputError, InputTypeError, TaskensembleError, UnsupportedError


class Running:
    """What a doer binds to a description: the servers' answers, and what was configured."""

    def __init__(self, alive=True):
        self.alive = alive
        self.configured = []

    def is_active(self):
        return self.alive

    def hosts(self):
        return ["127.0.0.1"]

    def addresses(self):
        return ["127.0.0.1:6780"]

    def configure(self, key, value):
        if key == "unknown":
            raise DatabaseError(f"Invalid CONFIG key-value pair ({key}: {value})")
        self.configured.append((key, value))


def test_the_default_is_one_local_server_without_a_name():
    database = Database()
    assert (database.name, database.db_identifier, database.type) == ("orchestrator", "orchestrator", "Database")
    assert (database.num_shards, database.db_nodes, len(database)) == (1, 1, 1)
    assert (database.ports, database.hosts, database.launcher) == ([6379], [], "local")
    assert [node.name for node in database] == ["orchestrator_0"]
    assert database["orchestrator_0"].db_identifier == "orchestrator"
    assert not database.batch
    with pytest.raises(KeyError, match="orchestrator_1"):
        database["orchestrator_1"]


def test_a_local_cluster_has_a_port_for_each_shard():
    database = Database(port=7000, db_nodes=3, db_identifier="c")
    assert database.ports == [7000, 7001, 7002]
    assert [node.name for node in database] == ["c_0", "c_1", "c_2"]
    assert Database(port=0, db_nodes=3).ports == [0]


@pytest.mark.parametrize("single_cmd", [True, False])
def test_a_cluster_on_nodes_is_one_command_or_several(single_cmd):
    database = Database(port=7000, launcher="slurm", run_command="srun", db_nodes=5, single_cmd=single_cmd)
    assert database.num_shards == database.db_nodes == 5
    assert database.ports == [7000]
    assert len(database.entities) == (1 if single_cmd else 5)
    assert len(database.entities[0].run_settings.mpmd) == (4 if single_cmd else 0)


@pytest.mark.usefixtures("mpi_launchers")
@pytest.mark.parametrize(
    ("keywords", "error", "told"),
    [
        ({"db_nodes": 2}, UnsupportedError, "db_nodes=2"),
        ({"db_nodes": 0}, InputError, "db_nodes=0"),
        ({"db_nodes": "many"}, InputTypeError, "db_nodes='many'"),
        ({"port": "6379"}, InputTypeError, "port='6379'"),
        ({"port": -1}, InputError, "port=-1"),
        ({"batch": True}, TaskensembleError, "batch=True"),
        ({"run_command": "srun"}, TaskensembleError, "run_command"),
        ({"launcher": "cobalt"}, UnsupportedError, "launcher='cobalt'"),
        ({"launcher": "slurm", "run_command": "mpirun"}, TaskensembleError, "hosts"),
        ({"interface": 5}, InputTypeError, "interface=5"),
        ({"db_identifier": ""}, AttributeError, "name"),
        ({"colour": "red"}, InputTypeError, "'colour'"),
    ],
)
def test_what_cannot_be_started_is_refused_by_name(keywords, error, told):
    with pytest.raises(error, match=told):
        Database(**keywords)


def test_an_interface_that_this_node_lacks_is_a_warning(caplog):
    Database(interface=["lo", "no-such-interface"])
    assert "no-such-interface" in caplog.text


def test_no_run_command_on_the_path_is_an_error_that_names_them(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="srun, mpirun, mpiexec"):
        Database(launcher="slurm")


@pytest.mark.parametrize("running", [None, Running(alive=False)])
@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("get_address", ()),
        ("set_db_conf", ("maxmemory", "1gb")),
        ("set_db_conf", (5, 5)),
        ("enable_checkpoints", (60,)),
        ("set_max_memory", ("1gb",)),
        ("set_eviction_strategy", ("allkeys-lru",)),
        ("set_max_clients", ()),
        ("set_max_message_size", ()),
    ],
)
def test_an_inactive_database_has_no_address_and_no_configuration(running, method, arguments):
    database = Database()
    database.running = running
    assert not database.is_active()
    with pytest.raises(TaskensembleError, match="not active"):
        getattr(database, method)(*arguments)


@pytest.mark.parametrize(
    ("method", "arguments", "configured"),
    [
        ("set_db_conf", ("maxmemory", "1gb"), ("maxmemory", "1gb")),
        ("enable_checkpoints", (60,), ("save", "60 1")),
        ("set_max_memory", ("3gb",), ("maxmemory", "3gb")),
        ("set_eviction_strategy", ("allkeys-lru",), ("maxmemory-policy", "allkeys-lru")),
        ("set_max_clients", (), ("maxclients", "50000")),
        ("set_max_message_size", (), ("proto-max-bulk-len", "1073741824")),
    ],
)
def test_a_running_database_is_configured_at_once(method, arguments, configured):
    database = Database()
    database.running = Running()
    getattr(database, method)(*arguments)
    assert database.running.configured == [configured]


def test_a_running_database_tells_where_it_is():
    database = Database(port=6780, interface=["lo"])
    database.running = Running()
    assert database.is_active()
    assert database.get_address() == ["127.0.0.1:6780"]
    assert database.hosts == ["127.0.0.1"]
    with pytest.raises(DatabaseError, match="unknown"):
        database.set_db_conf("unknown", "x")
    with pytest.raises(TypeError, match="strings"):
        database.set_db_conf("maxmemory", 5)


def test_a_folder_is_shared_with_its_nodes(tmp_path):
    database = Database()
    database.place(str(tmp_path))
    assert database.path == database.entities[0].path == str(tmp_path)
    database.set_path("elsewhere")
    assert database.entities[0].path == "elsewhere"
    assert database.checkpoint_file.startswith("elsewhere/")


@pytest.mark.parametrize(
    ("launcher", "command", "reserved"), [("slurm", "srun", "nodes"), ("pbs", "aprun", "pes-per-numa-node")]
)
def test_run_arguments_are_set_on_every_node_but_the_reserved(launcher, command, reserved, caplog):
    database = Database(db_nodes=3, launcher=launcher, run_command=command)
    database.set_run_arg("account", "A")
    database.set_run_arg(reserved, "5")
    assert all(node.run_settings.run_args["account"] == "A" for node in database)
    assert f"{reserved}: it is a reserved keyword" in caplog.text


def test_batch_arguments_need_a_batch_job(caplog):
    with pytest.raises(TaskensembleError, match="batch"):
        Database(db_nodes=3, launcher="slurm", run_command="srun").set_batch_arg("account", "A")
    with pytest.raises(TaskensembleError, match="walltime"):
        Database().set_walltime("10:00:00")
    database = Database(db_nodes=3, launcher="slurm", run_command="srun", batch=True, account="X", time="01:00:00")
    assert database.batch
    database.set_batch_arg("account", "A")
    database.set_batch_arg("nodes", "9")
    database.set_walltime("02:00:00")
    assert database.batch_settings.batch_args == {"nodes": "3", "account": "A", "time": "02:00:00"}
    assert "nodes: it is a reserved keyword" in caplog.text


def test_hosts_are_given_to_nodes_in_order():
    database = Database(db_nodes=3, launcher="slurm", run_command="srun", hosts=["a", "b", "c"])
    assert [node.run_settings.run_args["nodelist"] for node in database] == ["a", "b", "c"]
    with pytest.raises(TypeError, match="host_list"):
        database.set_hosts([1])
    with pytest.raises(TypeError, match="host_list"):
        database.set_hosts({"a": 1})


def test_cpus_are_given_to_every_node_and_the_batch_job():
    database = Database(db_nodes=3, launcher="slurm", run_command="srun", batch=True)
    database.set_cpus(4)
    assert all(node.run_settings.run_args["cpus-per-task"] == 4 for node in database)
    assert database.batch_settings.batch_args["cpus-per-task"] == "4"
    with pytest.raises(InputError, match="num_cpus=0"):
        database.set_cpus(0)


def test_hosts_of_a_cluster_are_forgotten_up_to_the_users(tmp_path):
    database = Database(db_nodes=3, launcher="lsf", run_command="jsrun", hosts=["a", "b", "c"])
    assert database.hosts == ["a", "b", "c"]
    database.entities[0].set_hosts(["x"])
    database.reset_hosts()
    assert database.hosts == ["a", "b", "c"]


def test_what_an_earlier_launch_left_is_removed(tmp_path):
    database = Database(tmp_path)
    left = [tmp_path / name for name in ("orchestrator_0.out", "orchestrator_0.err", "nodes-orchestrator_0-6379.conf")]
    for path in [*left, tmp_path / "kept.txt"]:
        path.write_text("x")
    database.remove_stale_files()
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_a_node_has_output_files_and_one_host():
    node = DatabaseNode("n_0", None, None, [6379], ["n_0.out"])
    node.set_hosts(["h"])
    assert node.host == "h"
    node.clear_hosts()
    with pytest.raises(ValueError, match="host"):
        _ = node.host
    with pytest.raises(ValueError, match="empty"):
        DatabaseNode("n_0", None, None, [6379], [])
    with pytest.raises(ValueError, match="list"):
        DatabaseNode("n_0", None, None, [6379], [5])
