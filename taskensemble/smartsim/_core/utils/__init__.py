"""Small functions that scripts and test suites of SmartSim's reach for."""

from taskensemble.smartsim._core.utils.helpers import delete_elements, expand_exe_path, installed_redisai_backends

__all__ = ["delete_elements", "expand_exe_path", "installed_redisai_backends"]
