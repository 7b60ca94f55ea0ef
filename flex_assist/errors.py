"""Every error that a user can meet.

    FlexAssistError
    ├── ConfigError          a setting, flag or file of settings is wrong
    │   └── MissingExtraError    an optional part of the product is not installed
    ├── DataError            the repository or the data made from it cannot be used
    ├── ModelError           a model file is missing, damaged or of a kind that is not supported
    ├── EngineError          the engine host does not answer as it should
    │   └── Cancelled            the request was withdrawn by the one who made it
    ├── ExportError          an adapter cannot be written or does not survive its checks
    └── BusyError            another process holds what this one needs

A message says what failed, with the value, and what to do next. The command line prints it as one
line and exits with 1 (2 for ``ConfigError``); the editors show it once.
"""

__all__ = [
    "BusyError",
    "Cancelled",
    "ConfigError",
    "DataError",
    "EngineError",
    "ExportError",
    "FlexAssistError",
    "MissingExtraError",
    "ModelError",
]


class FlexAssistError(Exception):
    """The root: whatever the product raises on purpose."""


class ConfigError(FlexAssistError):
    """A setting, a flag or a settings file is wrong."""


def how_to_install(extra: str) -> str:
    """What to do for an optional part. By the wheel: there is no package in a registry."""
    return f"install the wheel with its extra, pip install './flex_assist-VERSION.whl[{extra}]'"


class MissingExtraError(ConfigError):
    """An optional part is not installed.

    Args:
        what: What the user asked for, e.g. ``"training"``.
        extra: The extra of this distribution that brings it, e.g. ``"train"``.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs packages that are not installed: {how_to_install(extra)}")
        self.extra = extra


class DataError(FlexAssistError):
    """The repository, or the data made from it, cannot be used."""


class ModelError(FlexAssistError):
    """A model file is missing, damaged or not supported."""


class EngineError(FlexAssistError):
    """The engine host failed, or cannot be reached."""


class Cancelled(EngineError):
    """The request was withdrawn; there is no answer and nobody waits for one."""


class ExportError(FlexAssistError):
    """An adapter cannot be exported, or its export failed a check."""


class BusyError(FlexAssistError):
    """Another process holds the lock."""
