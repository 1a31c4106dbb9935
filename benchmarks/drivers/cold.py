"""One member, nothing running before: what `python driver.py` costs."""

from taskensemble import Experiment

exp = Experiment("cold")
exp.start(exp.create_model("one", exp.create_run_settings("/bin/true")), quiet=True)
