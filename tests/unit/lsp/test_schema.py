"""The extension's manifest says what the product's settings are."""

import json
from pathlib import Path

from flex_lsp.schema import editor_settings, main
from flex_lsp.settings import read_options

MANIFEST = Path(__file__).parents[3] / "lsp" / "editors" / "vscode" / "package.json"


def test_the_manifest_is_up_to_date(tmp_path: Path) -> None:
    copy = tmp_path / "package.json"
    copy.write_text(MANIFEST.read_text(encoding="utf-8"), encoding="utf-8")
    main([str(copy)])
    assert copy.read_text(encoding="utf-8") == MANIFEST.read_text(encoding="utf-8"), (
        "run: python -m flex_lsp.schema lsp/editors/vscode/package.json"
    )


def test_a_folder_cannot_name_the_program_or_the_model() -> None:
    schemas = editor_settings()
    for name in ("command", "arguments", "model.base", "engine.threads"):
        assert schemas[f"flexAssist.{name}"]["scope"] == "machine"
    assert schemas["flexAssist.completion.enabled"]["scope"] == "window"


def test_the_server_understands_every_setting_of_the_manifest() -> None:
    properties = json.loads(MANIFEST.read_text())["contributes"]["configuration"]["properties"]
    values = {name.split(".", 1)[1]: schema["default"] for name, schema in properties.items()}
    assert read_options(values).faults == ()
