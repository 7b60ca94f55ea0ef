"""What an editor may set: its options, turned into flags of the product's settings.

Editors send ``initializationOptions`` once and ``workspace/didChangeConfiguration`` later. Both
hold sections of ``flex_assist.config`` (``{"completion": {"debounceMs": 40}}``, in camel or snake
case), bare or under ``flexAssist``, and a few options of the editor itself.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from flex_assist import config
from flex_assist.config import Settings
from flex_assist.errors import ConfigError
from flex_assist.locations import Locations

WRAPPER = "flexAssist"
CompletionMenu = Literal["auto", "always", "never"]
# Read by the extension itself; it sends its whole section.
_OF_THE_EXTENSION = frozenset({"command", "arguments", "trace", "statusBar"})
# Sections that an editor shows. The others belong to commands that an editor does not run.
EDITOR_SECTIONS = ("completion", "model", "engine", "prompt")


@dataclass(frozen=True, slots=True, kw_only=True)
class EditorOptions:
    """What an editor asked for.

    Attributes:
        flags: ``{"section.key": value}``, unchecked.
        completion_menu: Whether completions also come as items of a menu: ``auto`` does so for
            editors that cannot show them inline.
        faults: What of the options is wrong, for people.
    """

    flags: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    completion_menu: CompletionMenu = "auto"
    faults: tuple[str, ...] = ()


def read_options(*layers: object) -> EditorOptions:
    """Options of an editor; a later layer wins over an earlier one."""
    flags: dict[str, Any] = {}
    menu: CompletionMenu = "auto"
    faults: list[str] = []
    for layer in layers:
        for key, value in _unwrapped(layer, faults).items():
            if key == "completionMenu" and value in get_args(CompletionMenu):
                menu = value
            elif key == "completionMenu":
                words = ", ".join(get_args(CompletionMenu))
                faults.append(f"editor: completionMenu = {value!r}: must be one of {words}")
            elif key not in _OF_THE_EXTENSION and value is not None:
                flags.update(_flags(key, value, faults))
    return EditorOptions(flags=flags, completion_menu=menu, faults=tuple(dict.fromkeys(faults)))


def load(
    locations: Locations, root: Path | None, options: EditorOptions, report: Callable[[str], None]
) -> Settings:
    """The settings for one repository. What is wrong is reported once, and left out.

    A layer with a fault is left out as a whole: the editor's options, or the repository's file, or
    the user's file.
    """
    faults = list(options.faults)
    for place, flags in ((root, options.flags), (root, {}), (None, options.flags), (None, {})):
        try:
            settings = config.load(locations, place, flags, flags_source="editor")
        except ConfigError as error:
            faults += str(error).splitlines()
            continue
        if not flags or not options.faults:
            break
    else:
        settings = Settings()
    if faults:
        lines = "\n".join(dict.fromkeys(faults))
        report(f"FLeX-Assist uses its defaults, because settings are wrong:\n{lines}")
    return settings


def camel_case(name: str) -> str:
    """``debounce_ms`` as editors write it: ``debounceMs``."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _unwrapped(layer: object, faults: list[str]) -> dict[str, Any]:
    if layer is None:
        return {}
    if isinstance(layer, Mapping) and isinstance(layer.get(WRAPPER), Mapping):
        layer = layer[WRAPPER]
    if not isinstance(layer, Mapping):
        faults.append(f"editor: options must be an object with sections, not {layer!r}")
        return {}
    return {str(key): value for key, value in layer.items()}


def _flags(key: str, value: Any, faults: list[str]) -> dict[str, Any]:
    section, _, rest = key.partition(".")
    if section not in config.sections():
        faults.append(f"editor: unknown section {section!r}; known: {', '.join(config.sections())}")
        return {}
    values = {rest: value} if rest else value
    if not isinstance(values, Mapping):
        faults.append(f"editor: {key} = {value!r}: must be an object with settings")
        return {}
    return {f"{section}.{_snake_case(str(name))}": each for name, each in values.items()}


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()
