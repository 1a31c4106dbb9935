# ruff: noqa: E501 -- a row of a table is one line
"""The table of wrong inputs: one row an argument, with the code that gives it, the error and words of its message.

`docs/bad-input.md` is this table: `python -m tests.unit.bad_input > docs/bad-input.md` writes it, a test compares the two.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

SETUP = """
exp = Experiment("exp")
true = exp.create_run_settings("/bin/true")
def model(**keywords): return exp.create_model("model", exp.create_run_settings("/bin/true"), **keywords)
def ensemble(**keywords): return exp.create_ensemble("plate", run_settings=true, **keywords)
"""

ROWS: dict[str, list[tuple[str, str, str, str]]] = {
    "Experiment": [
        ("name", "Experiment(3)", "InputTypeError", "name"),
        ("exp_path", "Experiment('e', exp_path='nowhere')", "NotADirectoryError", "exp_path='nowhere'"),
        ("launcher", "Experiment('e', launcher='loacl')", "UnsupportedError", "launcher='loacl'"),
        ("slots", "Experiment('e', slots=0)", "InputError", "slots=0"),
        ("transfer_limit", "Experiment('e', shared_filesystem=False, transfer_limit='many')", "InputError", "transfer_limit='many'"),
        ("transfer_store", "Experiment('e', transfer_store='s3://b')", "InputError", "transfer_store='s3://b'"),
        ("broker", "Experiment('e', broker='ftp://x').start(model())", "InputError", "broker='ftp://x'"),
        ("store", "Experiment('e', store='redis://x').start(model())", "InputError", "store='redis://x'"),
        ("start", "exp.start()", "InputError", "start"),
        ("generate", "exp.generate()", "InputError", "generate"),
        ("start: entities", "exp.start('model')", "InputTypeError", "'model'"),
        ("poll: interval", "exp.poll(interval='10')", "InputTypeError", "interval='10'"),
        ("poll: entity", "exp.poll(model())", "RunNotFoundError", "'model'"),
        ("finished", "exp.finished('model')", "InputTypeError", "model"),
        ("summary: style", "exp.summary(style='fancy!')", "InputError", "style='fancy!'"),
        ("preview: verbosity_level", "exp.preview(model(), verbosity_level='all')", "InputError", "verbosity_level='all'"),
        ("preview: output_format", "exp.preview(model(), output_format='xml')", "PreviewFormatError", "output_format='xml'"),
        ("reconnect: run_id", "exp.reconnect('exp-1')", "RunNotFoundError", "exp-1"),
        ("resume: run_id", "exp.resume('exp-1')", "RunNotFoundError", "exp-1"),
        ("attach_database: url", "exp.attach_database('http://x')", "InputError", "http://x"),
        ("reconnect_orchestrator: checkpoint", "exp.reconnect_orchestrator('none.json')", "FileNotFoundError", "none.json"),
        ("start_adaptive: generator", "exp.start_adaptive(model(), [{}])", "InputTypeError", "generator="),
    ],
    "Model": [
        ("retries", "model(retries=-1)", "InputError", "retries=-1"),
        ("retry_delay", "model(retry_delay=-1)", "InputError", "retry_delay=-1"),
        ("retry_delay without retries", "model(retry_delay=5)", "InputError", "retry_delay=5"),
        ("retry_on", "model(retry_on=['x'])", "InputTypeError", "retry_on"),
        ("walltime", "model(walltime=0)", "InputError", "walltime"),
        ("grace", "model(grace=-1)", "InputError", "grace=-1"),
        ("output_limit", "model(output_limit=-1)", "InputError", "output_limit"),
        ("keep_outputs", "model(keep_outputs='some')", "InputError", "keep_outputs='some'"),
        ("on_failure", "model(on_failure='explode')", "InputError", "on_failure='explode'"),
        ("resources: cpus", "model(resources=Resources(cpus=0))", "InputError", "cpus=0"),
        ("resources: gpus", "model(resources=Resources(gpus=-1))", "InputError", "gpus=-1"),
        ("resources: memory", "model(resources=Resources(memory='many'))", "InputError", "memory='many'"),
        ("depends_on", "model(depends_on='other')", "InputTypeError", "depends_on"),
        ("params", "model(params=3)", "InputTypeError", "params"),
        ("unknown keyword", "model(retires=2)", "InputTypeError", "retires"),
        ("attach_generator_files", "model().attach_generator_files(to_copy='none.txt')", "FileNotFoundError", "none.txt"),
        ("add_ml_model: backend", "model().add_ml_model('n', backend='TROCH', model=b'x')", "InputError", "TROCH"),
        ("add_ml_model: min_batch_timeout", "model().add_ml_model('n', backend='TORCH', model=b'x', min_batch_timeout=5)", "InputError", "min_batch_timeout=5"),
        ("add_ml_model: device", "model().add_ml_model('n', backend='TORCH', model=b'x', device='TPU')", "InputError", "TPU"),
    ],
    "Ensemble": [
        ("perm_strategy", "ensemble(params={'A': [1]}, perm_strategy='some')", "UnsupportedError", "some"),
        ("params", "ensemble(params={'A': [{}]})", "InputTypeError", "A"),
        ("replicas", "ensemble(replicas=0)", "InputError", "replicas"),
        ("run_settings twice", "exp.create_ensemble(true, run_settings=true)", "InputTypeError", "run_settings"),
        ("seed", "ensemble(params={'A': [1, 2]}, perm_strategy='random', seed='x')", "InputTypeError", "seed='x'"),
        ("seed without drawing", "ensemble(params={'A': [1, 2]}, seed=3)", "InputError", "seed=3"),
        ("n_models without params", "ensemble(replicas=2, n_models=3)", "InputError", "n_models=3"),
        ("enough", "exp.start(ensemble(replicas=2, enough=3))", "InputError", "enough=3"),
        ("unknown keyword", "ensemble(replicas=1, retires=2)", "InputTypeError", "retires"),
    ],
    "Settings": [
        ("exe", "exp.create_run_settings('no-such-program')", "FileNotFoundError", "no-such-program"),
        ("exe_args", "exp.create_run_settings('/bin/true', exe_args=3)", "InputTypeError", "exe_args"),
        ("env_vars", "true.update_env({'A': [1]})", "InputTypeError", "env_vars['A']"),
        ("settings of another scheduler", "Experiment('e', launcher='slurm').start(exp.create_model('m', JsrunSettings('/bin/true')))", "UnsupportedError", "JsrunSettings"),
        ("batch settings", "exp.create_batch_settings(nodes=1)", "TaskensembleError", "local"),
    ],
    "Database": [
        ("db_nodes", "exp.create_database(db_nodes=2)", "UnsupportedError", "db_nodes=2"),
        ("port", "exp.create_database(port=70000)", "InputError", "port=70000"),
        ("linger", "exp.create_database(linger=60)", "InputError", "linger=60"),
    ],
    "Client": [
        ("address", "Client(cluster=False, address='nonsense')", "DatabaseError", "nonsense"),
        ("cluster", "Client(cluster='yes', address='localhost:1')", "TypeError", "cluster"),
    ],
    "Environment variables": [
        ("TASKENSEMBLE_BROKER_URL", "set('TASKENSEMBLE_BROKER_URL', 'ftp://x'), exp.start(model())", "InputError", "ftp://x"),
        ("TASKENSEMBLE_STORE_URL", "set('TASKENSEMBLE_BROKER_URL', 'amqp://x'), exp.start(model())", "InputError", "TASKENSEMBLE_STORE_URL"),
        ("TASKENSEMBLE_SIGNING_KEY_FILE", "set('TASKENSEMBLE_SIGNING_KEY_FILE', '/nowhere'), signing.from_environment()", "InputError", "TASKENSEMBLE_SIGNING_KEY_FILE"),
        ("TASKENSEMBLE_ALLOW_EXECUTABLES", "limits_of((), (), {'TASKENSEMBLE_ALLOW_EXECUTABLES': 'no-program'})", "InputError", "--allow-executables"),
        ("TASKENSEMBLE_ALLOW_ROOTS", "limits_of((), (), {'TASKENSEMBLE_ALLOW_ROOTS': '/nowhere'})", "InputError", "--allow-roots"),
    ],
    "Command line": [
        ("up: --slots", "cli('up', '--slots', '0')", "exit 2", "--slots"),
        ("status: run", "cli('status', 'no-such-run')", "exit 3", "control plane"),
        ("worker: --slots", "worker('--slots', '0')", "exit 2", "--slots"),
        ("worker: --lease", "worker('--lease', '0')", "exit 2", "--lease"),
        ("worker: unknown option", "worker('--slotz', '1')", "exit 2", "--slotz"),
    ],
}  # fmt: skip


def page() -> str:
    """`docs/bad-input.md`."""
    lines = [
        "# Wrong input",
        "",
        "What is wrong is refused where it is said, before anything starts, with a message that names it.",
    ]
    lines += [
        "Each row of this page is a test. Every error of the package is a `TaskensembleError`; `InputError` is a `ValueError`, and"
    ]
    lines += ["`InputTypeError` a `TypeError` as well."]
    for title, rows in ROWS.items():
        lines += ["", f"## {title}", "", "| argument | wrong input | error | the message says |", "|---|---|---|---|"]
        lines += [f"| {name} | `{code}` | {error} | `{words}` |" for name, code, error, words in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
