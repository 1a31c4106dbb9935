"""What the environment says."""

from taskensemble.smartsim._core.config.config import get_config

CONFIG = get_config()

__all__ = ["CONFIG", "get_config"]
