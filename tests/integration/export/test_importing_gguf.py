"""LoRA GGUF files of another make, and ones that say what is not so."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from flex_assist.adapters.exporting import Order, export
from flex_assist.adapters.importing import import_gguf
from flex_assist.adapters.registry import AdapterVersion, Registry
from flex_assist.errors import ConfigError, ExportError, ModelError
from flex_assist.models.gguf_file import field, open_gguf
from flex_assist.models.survival import stored_updates


def rewritten(
    source: Path,
    target: Path,
    changes: dict[str, Any] | None = None,
    *,
    silent: bool = False,
    extra: dict[str, str] | None = None,
) -> Path:
    """A GGUF file with other metadata; ``silent``: it says nothing of itself."""
    reader = open_gguf(source)
    writer = gguf.GGUFWriter(target, str(field(reader, "general.architecture")))
    for key, entry in reader.fields.items():
        own = key.startswith(("flex_assist.", "tokenizer.ggml.fim_"))
        if key.startswith(("GGUF.", "general.architecture")) or (silent and own):
            continue
        value = (changes or {}).get(key, entry.contents())
        writer.add_key_value(key, value, entry.types[0])
    for key, text in (extra or {}).items():
        writer.add_string(key, text)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def test_a_file_that_says_nothing_needs_a_name_and_has_no_infilling(
    base: Path, tmp_path: Path, registry: Registry, version: AdapterVersion
) -> None:
    foreign = rewritten(version.lora, tmp_path / "foreign.gguf", silent=True)
    with pytest.raises(ConfigError, match="by --name"):
        import_gguf(foreign, None, base, "tiny", registry)
    with pytest.raises(ConfigError, match=r"'pyton' is no language .* mean 'python'"):
        import_gguf(foreign, "pyton", base, "tiny", registry)
    made = import_gguf(foreign, "python", base, "tiny", registry)
    assert made.manifest.fim is None
    assert "without infilling tokens" in made.manifest.reason
    export(Order(version=made, base=base, target=tmp_path / "out"))
    assert "--spm-infill" not in (tmp_path / "out" / "README.md").read_text()


def test_nothing_but_the_numbers_is_taken_over(
    base: Path, tmp_path: Path, registry: Registry, version: AdapterVersion
) -> None:
    given = rewritten(version.lora, tmp_path / "given.gguf", extra={"adapter.strange": "x"})
    made = import_gguf(given, "go", base, "tiny", registry)
    assert field(open_gguf(given), "adapter.strange") == "x"
    assert field(open_gguf(made.lora), "adapter.strange") is None
    assert {path.name for path in made.folder.iterdir()} == {
        "adapter.gguf", "manifest.json", "merged-q8_0.gguf",
    }  # fmt: skip
    before, after = stored_updates(version.lora), stored_updates(made.lora)
    assert before.keys() == after.keys()
    for name, one in before.items():
        assert np.array_equal(one.rows(slice(None)), after[name].rows(slice(None)))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"flex_assist.base.sha256": "0" * 64}, ExportError, "not of .*give its base"),
        ({"flex_assist.fim_end_token_id": 1 << 30}, ModelError, "says of itself cannot be"),
        ({"flex_assist.adapter.name": "../x"}, ConfigError, "is no language"),
    ],
)  # fmt: skip
def test_a_file_that_says_what_is_not_so(
    base: Path, tmp_path: Path, registry: Registry, version: AdapterVersion,
    changes: dict[str, Any], error: type[Exception], message: str,
) -> None:  # fmt: skip
    wrong = rewritten(version.lora, tmp_path / "wrong.gguf", changes)
    before = registry.folders()
    with pytest.raises(error, match=message):
        import_gguf(wrong, None, base, "tiny", registry)
    assert registry.folders() == before
    assert registry.sweep() == []
