"""Languages without an adapter of their own: why, by the manifests of their repository."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flex_assist.adapters import explain
from flex_assist.adapters import manifest as manifests
from flex_assist.adapters.manifest import FILE_NAME, LORA_GGUF, REPORT_HTML, Manifest
from flex_assist.adapters.registry import Registry
from flex_assist.cli.adapters import app
from flex_assist.errors import ConfigError, DataError
from flex_assist.locations import locate

# The head of a GGUF file: version 3, no tensors, no metadata.
EMPTY_GGUF = struct.pack("<4sIQQ", b"GGUF", 3, 0, 0)

FIRST, SECOND = "20260101T000000Z-0001", "20260102T000000Z-0002"
POOL = {"pool": {"go": {"files": 5, "train_tokens": 800, "why": "5 of the 20 files"}}}


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(locate(), tmp_path)


def publish(
    registry: Registry, name: str = "python", version: str = FIRST, *, active: bool = True,
    **changes: Any,
) -> Path:  # fmt: skip
    values: dict[str, Any] = {
        "name": name, "version": version, "languages": (name,), "base_model": "b",
        "base_sha256": "0" * 64, "fim": None, "verdict": "promoted", "reason": "it helps",
        **changes,
    }  # fmt: skip
    staged = registry.stage(name)
    (staged / LORA_GGUF).write_bytes(EMPTY_GGUF)
    (staged / REPORT_HTML).write_text("<p>")
    (staged / FILE_NAME).write_text(manifests.to_json(Manifest(**values)))
    found = registry.publish(name, staged, version)
    if active:
        registry.activate(name, version)
    return found.folder


def shown(registry: Registry, tmp_path: Path, *arguments: str) -> str:
    done = CliRunner().invoke(
        app, ["show", *arguments, "--repo", str(tmp_path)], catch_exceptions=False,
        standalone_mode=False,
    )  # fmt: skip
    return done.output


def test_a_pooled_language_leads_to_the_shared_adapter(registry: Registry) -> None:
    publish(registry, "shared", languages=("go", "ruby"), details=POOL)
    found = explain.without_own(registry, "go")
    assert found is not None
    assert found.adapter is not None
    assert found.adapter.manifest.name == "shared"
    assert found.why == (
        "go has no adapter of its own: the shared one answers for it (5 of the 20 files)"
    )
    # Made before the reasons were kept.
    ruby = explain.without_own(registry, "ruby")
    assert ruby is not None
    assert ruby.why == "ruby has no adapter of its own: the shared one answers for it"
    assert explain.without_own(registry, "rust") is None


def test_a_shared_adapter_that_was_not_promoted_explains_too(registry: Registry) -> None:
    publish(registry, "shared", languages=("go",), details=POOL, active=False)
    found = explain.without_own(registry, "go")
    assert found is not None
    assert "was not promoted, so the base answers" in found.why


def test_too_little_is_told_by_the_newest_manifest(registry: Registry) -> None:
    publish(registry, version=FIRST, details={"without_adapter": {"go": "2 files", "c": "1 file"}})
    publish(registry, version=SECOND, details={"without_adapter": {"go": "3 files"}})
    found = explain.without_own(registry, "go")
    assert found is not None
    assert (found.why, found.adapter) == ("go has no adapter: 3 files", None)
    assert explain.without_own(registry, "c") is None


def test_a_version_that_was_not_promoted_is_shown(registry: Registry) -> None:
    publish(registry, version=FIRST, active=False)
    publish(registry, version=SECOND, active=False, verdict="kept-base")
    found = explain.without_own(registry, "python")
    assert found is not None
    assert found.adapter is not None
    assert found.adapter.manifest.version == SECOND
    assert "no version of python is active" in found.why


def test_a_damaged_one_is_told(registry: Registry) -> None:
    (publish(registry) / FILE_NAME).write_text("{")
    found = explain.without_own(registry, "python")
    assert found is not None
    assert "damaged" in found.why


@pytest.mark.parametrize("details", [{"pool": 1}, {"pool": {"go": 2}}, {"without_adapter": []}])
def test_odd_details_explain_less(registry: Registry, details: dict[str, Any]) -> None:
    publish(registry, "shared", languages=("go",), details=details)
    found = explain.without_own(registry, "go")
    assert found is not None
    assert found.why.endswith("answers for it")


def test_show_tells_where_the_report_is(registry: Registry, tmp_path: Path) -> None:
    folder = publish(registry, "shared", languages=("go",), details=POOL)
    assert shown(registry, tmp_path, "shared", "--report") == f"{folder / REPORT_HTML}\n"
    assert shown(registry, tmp_path, "go", "--report") == f"{folder / REPORT_HTML}\n"
    text = shown(registry, tmp_path, "shared")
    assert f"  report   {folder / REPORT_HTML}\n" in text
    assert "  pooled   go: 5 files, 800 training tokens; 5 of the 20 files\n" in text
    assert "the shared one answers for it" in shown(registry, tmp_path, "go")
    record = json.loads(shown(registry, tmp_path, "go", "--json"))
    assert (record["language"], record["name"]) == ("go", "shared")
    assert record["report"] == str(folder / REPORT_HTML)
    assert "5 of the 20 files" in record["why"]


def test_show_of_a_language_with_too_little_is_no_error(registry: Registry, tmp_path: Path) -> None:
    publish(registry, details={"without_adapter": {"go": "3 \x1b[31mfiles"}})
    assert shown(registry, tmp_path, "go") == "go has no adapter: 3 \\x1b[31mfiles\n"
    assert json.loads(shown(registry, tmp_path, "go", "--json")) == {
        "language": "go", "why": "go has no adapter: 3 \x1b[31mfiles",
    }  # fmt: skip
    with pytest.raises(DataError, match="no report of 'go'"):
        shown(registry, tmp_path, "go", "--report")
    with pytest.raises(ConfigError, match="adapters here: python"):
        shown(registry, tmp_path, "rust")


def test_a_version_without_a_report_says_so(registry: Registry, tmp_path: Path) -> None:
    (publish(registry) / REPORT_HTML).unlink()
    assert "  report   none\n" in shown(registry, tmp_path, "python")
    assert json.loads(shown(registry, tmp_path, "python", "--json"))["report"] is None
    with pytest.raises(DataError, match="no report of 'python'"):
        shown(registry, tmp_path, "python", "--report")
