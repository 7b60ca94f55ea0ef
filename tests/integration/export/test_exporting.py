"""``adapters export`` and ``import``: there, and back again."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from flex_assist.adapters.exporting import FORMATS, Order, export
from flex_assist.adapters.importing import import_folder, import_gguf
from flex_assist.adapters.registry import AdapterVersion, Registry
from flex_assist.cli.adapters import app
from flex_assist.errors import (
    BusyError,
    ConfigError,
    DataError,
    ExportError,
    FlexAssistError,
    ModelError,
)
from flex_assist.locks import exclusive
from flex_assist.models.gguf_file import field, open_gguf
from flex_trainer import base_model

from .conftest import FIM, write_base


def order(version: AdapterVersion, base: Path, target: Path, **changes: Any) -> Order:
    return Order(version=version, base=base, target=target, **changes)


def digest_free(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", FORMATS)
def test_every_format(version: AdapterVersion, base: Path, tmp_path: Path, form: str) -> None:
    target = tmp_path / "out"
    made = export(order(version, base, target, form=form, kind="Q4_K_M"))
    assert {str(path.relative_to(target)) for path in made.files} == digest_free(target) == {
        "gguf": {"README.md", "adapter.gguf", "python-Q4_K_M.gguf"},
        "peft": {"adapter_model.safetensors", "adapter_config.json", "manifest.json",
                 "imatrix.gguf"},
        "ollama": {"Modelfile", "python-Q4_K_M.gguf"},
        "vllm": {"serve.sh", "python/adapter_model.safetensors", "python/adapter_config.json",
                 "python/manifest.json"},
    }[form]  # fmt: skip
    assert {path.stat().st_mode & 0o777 for path in made.files} == {0o600}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    if form in ("gguf", "ollama"):
        assert made.survival is not None
        assert 0.1 < made.survival["mean"] < 0.99
        assert "for programs that need 4 bits; Q8_0 answers better" in made.note
        reader = open_gguf(target / "python-Q4_K_M.gguf")
        assert field(reader, "general.file_type") == 15
        assert field(reader, "flex_assist.adapter.version") == version.manifest.version
        assert field(reader, "tokenizer.ggml.fim_suf_token_id") == FIM.suffix_id


def test_q8_0_is_the_file_that_was_measured(
    version: AdapterVersion, base: Path, tmp_path: Path
) -> None:
    export(order(version, base, tmp_path / "out"))
    assert version.merged is not None
    written = (tmp_path / "out" / "python-Q8_0.gguf").read_bytes()
    assert written == version.merged.read_bytes()


def test_the_importance_matrix_of_the_version_is_used(
    version: AdapterVersion, base: Path, tmp_path: Path
) -> None:
    export(order(version, base, tmp_path / "with", kind="Q4_0"))
    artefacts = {k: v for k, v in version.manifest.artefacts.items() if k != "imatrix.gguf"}
    version.manifest.artefacts.clear()
    version.manifest.artefacts.update(artefacts)
    (version.folder / "imatrix.gguf").unlink()
    export(order(version, base, tmp_path / "without", kind="Q4_0"))
    with_it, without = (
        (tmp_path / name / "python-Q4_0.gguf").read_bytes() for name in ("with", "without")
    )
    assert len(with_it) == len(without)
    assert with_it != without


def test_what_a_killed_export_left_is_removed(
    version: AdapterVersion, base: Path, tmp_path: Path
) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    left = tmp_path / f".out.{gone.pid}.abcd1234.part"
    running = tmp_path / f".out.{os.getpid()}.abcd1234.part"
    mine = tmp_path / ".out.part"
    for folder in (left, running, mine):
        folder.mkdir()
        (folder / "python-Q8_0.gguf").write_text("half")
    export(order(version, base, tmp_path / "out"))
    assert not left.exists()
    assert running.exists()
    assert mine.exists()


def test_nothing_is_replaced_unasked(version: AdapterVersion, base: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "README.md").write_text("mine")
    (target / "notes").write_text("mine")
    with pytest.raises(ConfigError, match=r"README\.md' exists; give another folder, or --force"):
        export(order(version, base, target))
    assert digest_free(target) == {"README.md", "notes"}
    export(order(version, base, target, force=True))
    assert "adapted by FLeX-Assist" in (target / "README.md").read_text()
    assert (target / "notes").read_text() == "mine"


def test_a_file_that_has_changed_is_not_exported(
    version: AdapterVersion, base: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.gguf"
    write_base(other, seed=3)
    with pytest.raises(ExportError, match="is not the base that python"):
        export(order(version, other, tmp_path / "out"))
    with pytest.raises(ConfigError, match="unknown format 'zip'"):
        export(order(version, base, tmp_path / "out", form="zip"))
    with pytest.raises(ConfigError, match="unknown type 'Q1'"):
        export(order(version, base, tmp_path / "out", kind="Q1"))
    version.lora.write_bytes(version.lora.read_bytes()[:-10])
    with pytest.raises(ExportError, match=r"'adapter\.gguf' of python .* has changed"):
        export(order(version, base, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
def test_peft_reads_it(version: AdapterVersion, base: Path, adapted: Any, tmp_path: Path) -> None:
    export(order(version, base, tmp_path / "out", form="peft"))
    plain = base_model.load_base(base, torch.device("cpu"), torch.float32, plain=True)
    loaded = PeftModel.from_pretrained(plain, str(tmp_path / "out"))
    ids = torch.tensor([list(b"def f(x):\n    return x")])
    with torch.no_grad():
        ours, theirs = adapted(input_ids=ids).logits, loaded(input_ids=ids).logits
    torch.testing.assert_close(theirs, ours, atol=1e-3, rtol=1e-3)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny"


def test_what_ollama_and_vllm_are_told(version: AdapterVersion, base: Path, tmp_path: Path) -> None:
    export(order(version, base, tmp_path / "ollama", form="ollama"))
    text = (tmp_path / "ollama" / "Modelfile").read_text()
    assert text.startswith('FROM ./python-Q8_0.gguf\nTEMPLATE """{{ if .Suffix }}<suf>')
    # As in training: what comes after the cursor goes first.
    assert "<suf>{{ .Suffix }}<pre>{{ .Prompt }}<mid>{{ else }}{{ if .System }}" in text
    stops = re.findall(r'^PARAMETER stop "(.+)"$', text, re.MULTILINE)
    assert stops == ["<|im_end|>", "<suf>", "<pre>", "<mid>", "<|stop|>"]
    export(order(version, base, tmp_path / "vllm", form="vllm"))
    script = (tmp_path / "vllm" / "serve.sh").read_text()
    assert script.endswith(
        'exec vllm serve "$base" --enable-lora --max-loras 1 --max-lora-rank 8 '
        "--lora-modules 'python=./python' \"$@\"\n"
    )


def test_a_developer_imports_what_the_server_was_given(
    version: AdapterVersion, base: Path, tmp_path: Path, registry: Registry
) -> None:
    target = tmp_path / "vllm"
    export(order(version, base, target, form="vllm"))
    registry.remove("python", version.manifest.version)
    made = import_folder(target / "python", base, registry)
    assert made.manifest.fim == version.manifest.fim
    assert made.manifest.version == version.manifest.version


def test_there_and_back(
    version: AdapterVersion, base: Path, tmp_path: Path, registry: Registry
) -> None:
    target = tmp_path / "out"
    export(order(version, base, target, form="peft"))
    with pytest.raises(DataError, match=r"is here already; remove it before"):
        import_folder(target, base, registry)
    lora, merged = version.lora.read_bytes(), (version.folder / "merged-q8_0.gguf").read_bytes()
    registry.remove("python", version.manifest.version)
    made = import_folder(target, base, registry)
    assert made.lora.read_bytes() == lora
    assert (made.folder / "merged-q8_0.gguf").read_bytes() == merged
    assert made.manifest.verdict == "imported"
    assert made.manifest.fim == FIM
    assert registry.active("python") is None
    assert {path.stat().st_mode & 0o777 for path in made.folder.iterdir()} == {0o600}
    # It can be exported again.
    export(order(made, base, tmp_path / "again", form="peft"))
    assert registry.sweep() == []


def break_weights(folder: Path, change: Any) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = dict(load_file(path))
    change(tensors)
    save_file(tensors, path)
    forget_digest(folder, path.name)


def forget_digest(folder: Path, name: str) -> None:
    """As one who writes the digest as well."""
    from flex_assist.files import digest

    record = json.loads((folder / "manifest.json").read_text())
    record["artefacts"][name] = digest(folder / name)
    (folder / "manifest.json").write_text(json.dumps(record))


def configured(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    forget_digest(folder, path.name)


def manifested(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


Q = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


def linked(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.rename(folder / "elsewhere")
    path.symlink_to(folder / "elsewhere")


def cut(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    forget_digest(folder, path.name)


FIM_PARTS = ("suffix_id", "prefix_id", "middle_id", "end_id")
BROKEN: list[tuple[Any, type[FlexAssistError], str]] = [
    (linked, DataError, "is a link"),
    (cut, ModelError, "damaged or cut short"),
    (lambda f: (f / "adapter_config.json").unlink(), DataError, "cannot be read"),
    (lambda f: (f / "adapter_config.json").write_text("{}"), DataError, "its digest differs"),
    (lambda f: configured(f, use_dora=True), ExportError, "use_dora"),
    (lambda f: configured(f, r="4"), ExportError, "cannot be served"),
    (lambda f: configured(f, lora_alpha=float("inf")), ExportError, "lora_alpha is inf"),
    (lambda f: configured(f, r=8), ExportError, "does not fit the base"),
    (lambda f: manifested(f, schema=99, readable_from=99), DataError, "newer version"),
    (lambda f: manifested(f, base_sha256="0" * 64), ExportError, "not of .*give its base"),
    (lambda f: manifested(f, fim=dict.fromkeys(FIM_PARTS, 1 << 40)), DataError, "infilling tokens"),
    (lambda f: manifested(f, fim=dict.fromkeys(FIM_PARTS, -1)), DataError, "infilling tokens"),
    (lambda f: manifested(f, name="../../x"), ConfigError, "cannot be an adapter's name"),
    (lambda f: manifested(f, version="../x"), DataError, "cannot be a version"),
    (lambda f: manifested(f, artefacts={}), DataError, "has no digests"),
    (lambda f: break_weights(f, lambda t: t.pop(Q)), ExportError, "a B without its A"),
    (
        lambda f: break_weights(f, lambda t: t.update(x=np.ones((2, 2), np.float32))),
        ExportError, "'x' is no part of a LoRA adapter",
    ),
    (
        lambda f: break_weights(f, lambda t: t.update({Q: t[Q][:, :3].copy()})),
        ExportError, "does not fit the base",
    ),
    (
        lambda f: break_weights(f, lambda t: t.update({Q: t[Q] * np.float32("nan")})),
        ModelError, "is no matrix of numbers",
    ),
]  # fmt: skip


def test_nothing_broken_or_evil_is_taken_in(
    version: AdapterVersion, base: Path, tmp_path: Path, registry: Registry
) -> None:
    good = tmp_path / "good"
    export(order(version, base, good, form="peft"))
    registry.remove("python", version.manifest.version)
    for number, (damage, error, message) in enumerate(BROKEN):
        folder = Path(shutil.copytree(good, tmp_path / str(number)))
        damage(folder)
        with pytest.raises(error, match=message):
            import_folder(folder, base, registry)
    assert registry.folders() == []
    assert registry.sweep() == []


def test_a_lora_gguf_file(
    version: AdapterVersion, base: Path, tmp_path: Path, registry: Registry
) -> None:
    made = import_gguf(version.lora, "go", base, "tiny", registry)
    assert made.manifest.languages == ("go",)
    # It goes on infilling, and knows whose it is.
    assert made.manifest.fim == FIM
    assert import_gguf(version.lora, None, base, "tiny", registry).manifest.name == "python"
    assert made.merged is not None
    with pytest.raises(ExportError, match="was imported from a GGUF file; use --format gguf"):
        export(order(made, base, tmp_path / "out", form="peft"))
    export(order(made, base, tmp_path / "out"))
    with pytest.raises(ExportError, match="no LoRA adapter"):
        import_gguf(base, "go", base, "tiny", registry)
    other = tmp_path / "other.gguf"
    other.write_bytes(version.lora.read_bytes()[:5000])
    with pytest.raises(ModelError, match="damaged or cut short"):
        import_gguf(other, "go", base, "tiny", registry)
    assert len(registry.folders()) == 3


def test_by_the_command_line(
    version: AdapterVersion, base: Path, tmp_path: Path, repository: Path, registry: Registry
) -> None:
    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, [*arguments, "--repo", str(repository), "--base", str(base)])

    out = str(tmp_path / "out")
    done = run("export", "python", out, "--format", "peft", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["format"] == "peft"
    assert {Path(one["path"]).name for one in told["files"]} == digest_free(tmp_path / "out")
    assert isinstance(run("export", "python", out, "--format", "peft").exception, ConfigError)
    assert isinstance(run("export", "go", out).exception, ConfigError)
    made = import_gguf(version.lora, "go", base, "tiny", registry)
    registry.activate("go", made.manifest.version)
    done = run("export", "python", str(tmp_path / "all"), "--format", "vllm")
    assert done.exit_code == 0, done.output
    assert "go is left out: it was imported as GGUF" in done.stderr
    assert not (tmp_path / "all" / "go").exists()
    registry.remove("go", made.manifest.version)
    # While a run, or `doctor --fix`, is at work on these adapters.
    with exclusive(registry.lock_file, what="it"):
        assert isinstance(run("import", out).exception, BusyError)
    registry.remove("python", version.manifest.version)
    done = run("import", out)
    assert done.exit_code == 0, done.output
    name = f"python/{version.manifest.version}"
    made = registry.get(*name.split("/"))
    assert done.stdout.splitlines()[0] == name
    done = run("export", name, str(tmp_path / "gguf"), "--type", "Q5_K_M", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["survival"]["mean"] > 0.3
    assert "no language" in str(run("import", str(made.lora), "--name", "py").exception)
    assert "there is no file" in str(run("import", out + "x").exception)
    done = run("import", str(made.lora), "--name", "go", "--json")
    assert json.loads(done.stdout)["name"] == "go"
