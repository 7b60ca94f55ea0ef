"""The settings that an editor shows, made from the product's own.

``python -m flex_lsp.schema PACKAGE_JSON`` writes them into the VS Code extension's manifest.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from flex_assist.config import sections
from flex_lsp.settings import EDITOR_SECTIONS, WRAPPER, CompletionMenu, camel_case

_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}
# A value of a repository's own settings counts only where its ``.flexassist.toml`` may set it too.
_TRUSTED_ONLY, _ANYWHERE = "machine", "window"


def editor_settings() -> dict[str, dict[str, Any]]:
    """JSON schemas by name, as VS Code's manifest wants them."""
    schemas = {f"{WRAPPER}.{name}": schema for name, schema in _of_the_extension().items()}
    known = sections()
    for section in EDITOR_SECTIONS:
        hints = get_type_hints(known[section])
        for field in dataclasses.fields(known[section]):
            name = f"{WRAPPER}.{section}.{camel_case(field.name)}"
            schemas[name] = _schema(field, hints[field.name])
    return schemas


def main(arguments: list[str]) -> None:
    """Write the schemas into a manifest."""
    path = Path(arguments[0])
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["contributes"]["configuration"]["properties"] = editor_settings()
    path.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _of_the_extension() -> dict[str, dict[str, Any]]:
    return {
        "command": {
            "type": "string", "default": "flex-assist", "scope": _TRUSTED_ONLY,
            "description": "the program: a name on the PATH, or a whole path",
        },
        "arguments": {
            "type": "array", "items": {"type": "string"}, "default": ["lsp", "--stdio"],
            "scope": _TRUSTED_ONLY, "description": "what the program is started with",
        },
        "completionMenu": {
            "type": "string", "default": "auto", "enum": list(get_args(CompletionMenu)),
            "scope": _ANYWHERE,
            "description": "suggestions as items of the completion menu; auto: only where the "
            "editor has no inline completion. Counts after a restart of the server",
        },
    }  # fmt: skip


def _schema(field: dataclasses.Field[Any], kind: Any) -> dict[str, Any]:
    facts = field.metadata
    schema: dict[str, Any]
    if get_origin(kind) is tuple:
        default: Any = field.default
        schema = {"type": "array", "items": {"type": "string"}, "default": list(default)}
    else:
        schema = {"type": _TYPES[kind], "default": field.default}
    limits = {"minimum": facts["low"], "maximum": facts["high"], "enum": facts["choices"]}
    schema |= {key: limit for key, limit in limits.items() if limit is not None}
    schema["scope"] = _ANYWHERE if facts["repository"] else _TRUSTED_ONLY
    return schema | {"description": facts["help"]}


if __name__ == "__main__":
    main(sys.argv[1:])
