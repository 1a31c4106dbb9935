"""Models: parameters, keys, equality, colocated databases."""

import pytest

from taskensemble.entity import Ensemble, Model
from taskensemble.entity.model import DEFAULT_SOCKET
from taskensemble.errors import EntityExistsError, InputError, InputTypeError, UnsupportedError
from taskensemble.settings import RunSettings, SrunSettings


def test_models_of_one_name_are_equal(settings):
    one, two, other = Model("m", {}, settings), Model("m", {"a": 1}, settings), Model("n", {}, settings)
    assert one == two != other
    assert hash(one) == hash(two)
    assert one != "m"
    assert repr(one) == "m"
    assert one.type == "Model"


def test_parameters_become_arguments_on_request(settings):
    model = Model("m", {"x": 1, "long": [1, 2], "text": "a b"}, settings, params_as_args=["long", "x", "text"])
    assert settings.exe_args == ["simulate.py", "--fast"]
    model.params_to_args()
    tail = ["--long", "1", "2", "-x", "1", "--text=a b"]
    assert settings.exe_args == ["simulate.py", "--fast", *tail]
    assert model.argument_tail == tuple(tail)
    assert model.params == {"x": "1", "long": "1 2", "text": "a b"}
    settings.add_exe_args("--later")
    assert model.argument_tail == ()


def test_an_argument_that_is_no_parameter_is_refused(settings):
    with pytest.raises(ValueError, match="Tried to convert y to command line argument for Model m"):
        Model("m", {"x": 1}, settings, params_as_args=["y"]).params_to_args()
    with pytest.raises(ValueError, match="no RunSettings"):
        Model("m", {"x": 1}, None, params_as_args=["x"]).params_to_args()


@pytest.mark.parametrize("name", [None, ""])
def test_a_model_needs_a_name(settings, name):
    with pytest.raises(AttributeError, match="Entity has no name"):
        Model(name, {}, settings)


def test_a_path_is_kept_or_given_by_the_experiment(settings, tmp_path):
    model = Model("m", {}, settings)
    model.place(str(tmp_path / "exp" / "m"))
    assert model.path == str(tmp_path / "exp" / "m")
    assert not model.path_given
    model.set_path("elsewhere")
    model.place("ignored")
    assert model.path == "elsewhere"
    assert Model("m", {}, settings, tmp_path).path == str(tmp_path)
    with pytest.raises(InputTypeError, match="path"):
        model.set_path(5)


def test_incoming_entities_are_registered_once(settings):
    model, other = Model("m", {}, settings), Model("p", {}, settings)
    model.register_incoming_entity(model)
    model.register_incoming_entity(other)
    assert [entity.name for entity in model.incoming_entities] == ["m", "p"]
    with pytest.raises(EntityExistsError, match="'p' has already been registered"):
        model.register_incoming_entity(Model("p", {}, settings))
    with pytest.raises(InputTypeError, match="incoming_entity"):
        model.register_incoming_entity("p")


def test_key_prefixing_is_off_until_enabled(settings):
    model = Model("m", {}, settings)
    assert not model.query_key_prefixing()
    model.enable_key_prefixing()
    assert model.query_key_prefixing()
    model.disable_key_prefixing()
    assert not model.query_key_prefixing()


def test_assets_of_one_name_are_refused(settings):
    model = Model("m", {}, settings)
    model.add_ml_model("cnn", "TORCH", b"x")
    with pytest.raises(UnsupportedError, match='An ML Model with name "cnn" already exists'):
        model.add_ml_model("cnn", "TORCH", b"y")
    model.add_function("f", "def f(x):\n    return x\n")
    with pytest.raises(UnsupportedError, match='A Script with name "f" already exists'):
        model.add_script("f", "text")
    with pytest.raises(InputError, match="'g'"):
        model.add_function("g")
    assert "DB Models: 1" in str(model)
    assert "DB Scripts: 1" in str(model)


class TestColocatedDatabases:
    def test_tcp_is_described_as_drivers_read_it(self, settings):
        model = Model("m", {}, settings)
        assert not model.colocated
        model.colocate_db_tcp(port=6780, ifname=["lo", "ib0"], db_cpus=2, debug=True, db_identifier="c", maxclients=100)
        assert model.colocated
        described = settings.colocated_db_settings
        assert {
            key: described[key] for key in ("port", "ifname", "cpus", "custom_pinning", "debug", "db_identifier")
        } == {
            "port": 6780,
            "ifname": ["lo", "ib0"],
            "cpus": 2,
            "custom_pinning": "0,1",
            "debug": True,
            "db_identifier": "c",
        }
        assert described["extra_db_args"] == {"maxclients": "100"}
        assert described["rai_args"] == {
            "threads_per_queue": None,
            "inter_op_parallelism": None,
            "intra_op_parallelism": None,
        }

    def test_uds_has_a_socket_of_its_own_by_default(self, settings):
        model = Model("m", {}, settings)
        model.colocate_db_uds(inter_op_threads=2)
        assert model.colocated_database.unix_socket == DEFAULT_SOCKET
        assert model.colocated_database.socket_permissions == 0o755
        assert settings.colocated_db_settings["socket_permissions"] == 755
        assert settings.colocated_db_settings["rai_args"]["inter_op_parallelism"] == "2"

    def test_the_old_name_warns_and_means_tcp(self, settings):
        model = Model("m", {}, settings)
        with pytest.warns(FutureWarning, match="colocate_db_tcp"):
            model.colocate_db(port=6780)
        assert model.colocated_database.transport == "tcp"

    @pytest.mark.parametrize(
        ("pinning", "cpus", "text"),
        [
            (None, 2, "0,1"),
            ([1, 2], 2, "1,2"),
            ([range(2), 3], 3, "0,1,3"),
            (range(3), 3, "0,1,2"),
            ([range(8, 10), range(6, 1, -2)], 4, "2,4,6,8,9"),
            ([3, 3], 1, "3"),
            ([], 1, None),
        ],
    )
    def test_pinning_is_numbers_and_ranges(self, settings, pinning, cpus, text):
        model = Model("m", {}, settings)
        model.colocate_db_tcp(db_cpus=cpus, custom_pinning=pinning)
        assert settings.colocated_db_settings["custom_pinning"] == text

    @pytest.mark.parametrize(
        ("call", "keywords", "error", "told"),
        [
            ("tcp", {"bind": "0.0.0.0"}, InputError, "'bind' cannot be configured"),
            ("uds", {"max_memory": "1gb\n"}, InputError, "no configuration of a server"),
            ("tcp", {"custom_pinning": 1}, TypeError, "custom_pinning"),
            ("tcp", {"custom_pinning": "10"}, TypeError, "custom_pinning"),
            ("tcp", {"custom_pinning": ["a"]}, TypeError, "custom_pinning"),
            ("tcp", {"custom_pinning": [1.0]}, TypeError, "custom_pinning"),
            ("tcp", {"custom_pinning": [-1]}, ValueError, "nonnegative"),
            ("tcp", {"limit_app_cpus": True}, UnsupportedError, "limit_app_cpus"),
            ("tcp", {"port": "6379"}, TypeError, "port='6379'"),
            ("tcp", {"port": 70000}, ValueError, "port=70000"),
            ("tcp", {"db_cpus": 0}, ValueError, "db_cpus=0"),
            ("tcp", {"ifname": 5}, TypeError, "ifname=5"),
            ("tcp", {"db_identifier": 5}, TypeError, "db_identifier=5"),
            ("uds", {"unix_socket": "this is not a valid name!"}, ValueError, "unix_socket"),
            ("uds", {"unix_socket": "/" + "x" * 108}, ValueError, "107 bytes"),
            ("uds", {"unix_socket": 5}, TypeError, "unix_socket"),
            ("uds", {"socket_permissions": 0o755}, ValueError, "755"),
            ("uds", {"socket_permissions": "rwx"}, ValueError, "socket_permissions"),
        ],
    )
    def test_what_cannot_be_used_is_named(self, settings, call, keywords, error, told):
        model = Model("m", {}, settings)
        with pytest.raises(error, match=told):
            getattr(model, f"colocate_db_{call}")(**keywords)
        assert not model.colocated

    def test_several_programs_cannot_share_a_colocated_database(self):
        settings = SrunSettings("echo")
        settings.make_mpmd(SrunSettings("echo"))
        with pytest.raises(UnsupportedError, match="mpmd"):
            Model("m", {}, settings).colocate_db_tcp()


def test_a_member_of_the_batch_keeps_its_batch_settings(settings):
    assert Model("m", {}, RunSettings("echo")).batch_settings is None


@pytest.mark.parametrize(("name", "told"), [("a\nb", "control characters"), ("x" * 201, "201 bytes"), ("a/b", "'/'")])
def test_a_name_can_name_files_and_lines(settings, name, told):
    with pytest.raises(InputError, match=told):
        Model(name, {}, settings)


def test_a_misspelt_keyword_is_told_what_it_may_mean(settings):
    with pytest.raises(InputTypeError, match="'retrys'; did you mean retries"):
        Model("m", {}, settings, retrys=2)
    with pytest.raises(InputTypeError, match="did you mean perm_strategy"):
        Ensemble("e", None, run_settings=settings, replicas=1, perm_stratgy="step")
