"""The policy keywords and resources: what they accept, how they end up, what they refuse."""

import datetime

import pytest

from taskensemble.entity import Policy, Resources
from taskensemble.errors import InputError, InputTypeError


@pytest.mark.parametrize(
    ("keywords", "name", "value"),
    [
        ({"retries": 3}, "retries", 3),
        ({"retries": 1, "retry_delay": "00:01:30"}, "retry_delay", 90.0),
        ({"retries": 1, "retry_on": {75, -9}}, "retry_on", frozenset({75, -9})),
        ({"retries": 1, "retry_on": 75}, "retry_on", frozenset({75})),
        ({"retries": 1, "restart_args": "--restart 'a b'"}, "restart_args", ("--restart", "a b")),
        ({"retries": 1, "restart_args": ["--restart", "a b"]}, "restart_args", ("--restart", "a b")),
        ({"walltime": 60}, "walltime", 60.0),
        ({"walltime": "01:00:01"}, "walltime", 3601.0),
        ({"walltime": "100:00:00"}, "walltime", 360000.0),
        ({"walltime": "05:30"}, "walltime", 330.0),
        ({"walltime": datetime.timedelta(minutes=2)}, "walltime", 120.0),
        ({"walltime": 60, "warn_before": 5}, "warn_before", 5.0),
        ({"grace": 0}, "grace", 0.0),
        ({"on_failure": "continue"}, "on_failure", "continue"),
        ({"on_failure": "stop"}, "on_failure", "stop"),
        ({"on_failure": 3}, "on_failure", "stop:3"),
        ({"on_failure": "stop:3"}, "on_failure", "stop:3"),
        ({"enough": 5}, "enough", 5),
        ({"keep_outputs": "failed"}, "keep_outputs", "failed"),
        ({"output_limit": 1024}, "output_limit", 1024),
        ({"walltime": None}, "walltime", None),
    ],
)
def test_a_policy_is_read_from_its_keyword(keywords, name, value):
    assert getattr(Policy.of(**keywords), name) == value


@pytest.mark.parametrize(
    ("keywords", "error", "told"),
    [
        ({"retries": -1}, InputError, "retries=-1"),
        ({"retries": 1.5}, InputTypeError, "retries=1.5"),
        ({"retries": True}, InputTypeError, "retries=True"),
        ({"retry_delay": -1}, InputError, "retry_delay=-1"),
        ({"retry_delay": "soon"}, InputError, "retry_delay='soon'"),
        ({"retries": 1, "retry_on": {0}}, InputError, "0 is success"),
        ({"retries": 1, "retry_on": {300}}, InputError, "300"),
        ({"retries": 1, "retry_on": "75"}, InputTypeError, "retry_on='75'"),
        ({"retries": 1, "retry_on": ["75"]}, InputTypeError, "'75'"),
        ({"retry_on": {75}}, InputError, r"retry_on=\{75\} has no effect without retries"),
        ({"retry_delay": 5}, InputError, "retry_delay=5 has no effect without retries"),
        ({"restart_args": "x"}, InputError, "restart_args='x' has no effect"),
        ({"retries": 1, "restart_args": 5}, InputTypeError, "restart_args=5"),
        ({"walltime": 0}, InputError, "walltime=0"),
        ({"walltime": float("inf")}, InputError, "walltime=inf"),
        ({"walltime": []}, InputTypeError, "walltime"),
        ({"warn_before": 5}, InputError, "walltime"),
        ({"walltime": 5, "warn_before": 5}, InputError, "warn_before=5"),
        ({"on_failure": "halt"}, InputError, "'halt'"),
        ({"on_failure": 0}, InputError, "on_failure=0"),
        ({"enough": 0}, InputError, "enough=0"),
        ({"keep_outputs": "none"}, InputError, "'none'"),
        ({"retrys": 1}, InputTypeError, "'retrys'.*retries"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused_by_name(keywords, error, told):
    with pytest.raises(error, match=told):
        Policy.of(**keywords)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, (None, 0.0, 0, False, ())),
        ({"cpus": 4, "gpus": 0.5, "memory": "4G", "tags": "fat"}, (4, 0.5, 4096, False, ("fat",))),
        ({"memory": 512, "whole_node": True, "tags": ["a", "b-1"]}, (None, 0.0, 512, True, ("a", "b-1"))),
        ({"memory": "1.5 GiB"}, (None, 0.0, 1536, False, ())),
        ({"memory": "100MB", "gpus": 2}, (None, 2, 100, False, ())),
        (Resources(cpus=2), (2, 0.0, 0, False, ())),
    ],
)
def test_resources_are_read_from_a_dict(given, expected):
    found = Resources.of(given)
    assert (found.cpus, found.gpus, found.memory_mb, found.whole_node, found.tags) == expected


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"cpu": 1}, InputError, "'cpu' is unknown; use cpus"),
        ({"cpus": 0}, InputError, "cpus=0"),
        ({"cpus": "2"}, InputError, "cpus='2'"),
        ({"gpus": -1}, InputError, "gpus=-1"),
        ({"gpus": 1.5}, InputError, "gpus=1.5"),
        ({"memory": "much"}, InputError, "'much'"),
        ({"memory": -1}, InputError, "memory=-1"),
        ({"tags": ["a b"]}, InputError, "'a b'"),
        (4, InputTypeError, "4"),
    ],
)
def test_resources_that_no_node_has_are_refused_by_name(given, error, told):
    with pytest.raises(error, match=told):
        Resources.of(given)
