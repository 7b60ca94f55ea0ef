"""A version's files for other programs: llama.cpp and what is built on it, PEFT, Ollama, vLLM."""

import glob
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flex_assist.adapters import manifest as manifests
from flex_assist.adapters import ollama
from flex_assist.adapters.forms import Parts, write_form
from flex_assist.adapters.manifest import (
    IMATRIX_GGUF,
    LORA_GGUF,
    MERGED_GGUF,
    PEFT_CONFIG,
    PEFT_WEIGHTS,
)
from flex_assist.adapters.registry import AdapterVersion
from flex_assist.engine import quantize
from flex_assist.errors import ConfigError, ExportError
from flex_assist.files import digest
from flex_assist.locations import private_directory

FORMATS: Final = ("gguf", "peft", "ollama", "vllm")
SERVED_TYPE: Final = "Q8_0"
FOUR_BITS: Final = ("Q4_K_M", "Q4_0")
LEAST_GAIN_TOLD: Final = 1.05
README: Final = "README.md"
VLLM_RANKS: Final = (8, 16, 32, 64, 128, 256, 320, 512)
PEFT_FILES: Final = (PEFT_WEIGHTS, PEFT_CONFIG, manifests.FILE_NAME)
Progress = quantize.Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to export.

    Attributes:
        form: One of ``FORMATS``.
        kind: One of ``quantize.TYPES``, of the merged file.
        base: The base's GGUF file, as trained on.
        others: Versions to export along: for vLLM, which serves all of a repository at once.
        force: Replace files of the same names.
    """

    version: AdapterVersion
    base: Path
    target: Path
    form: str = "gguf"
    kind: str = SERVED_TYPE
    others: Sequence[AdapterVersion] = ()
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written.

    Attributes:
        survival: Of the merged file, if there is one: see ``models.survival``.
        note: What to know before it is used, for people.
    """

    files: tuple[Path, ...]
    survival: dict[str, Any] | None
    note: str


def export(order: Order, progress: Progress = lambda done, total: None) -> Exported:
    """Write the files to the folder ``order.target``; all of them or none.

    Raises:
        ConfigError: Files are there already, or form or type is unknown.
        ExportError: A file of the version or the base has changed, or the disk is too small.
        ModelError: A file is damaged.
    """
    if order.form not in FORMATS:
        raise ConfigError(f"unknown format {order.form!r}; give one of {', '.join(FORMATS)}")
    if order.kind not in quantize.TYPES:
        raise ConfigError(f"unknown type {order.kind!r}; give one of {', '.join(quantize.TYPES)}")
    for version in (order.version, *order.others):
        _check_artefacts(version)
    parent = private_directory(order.target.absolute().parent)
    prefix = f".{order.target.name}."
    _remove_left(parent, prefix)
    made = Path(tempfile.mkdtemp(dir=parent, prefix=f"{prefix}{os.getpid()}.", suffix=".part"))
    try:
        survival, note = _WRITERS[order.form](order, made, progress)
        return Exported(files=_put(made, order), survival=survival, note=note)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _remove_left(parent: Path, prefix: str) -> None:
    """Remove what exports to the same place left that were killed."""
    import psutil

    for path in parent.glob(f"{glob.escape(prefix)}*.part"):
        process, _, rest = path.name.removeprefix(prefix).partition(".")
        if process.isdecimal() and rest.count(".") == 1 and not psutil.pid_exists(int(process)):
            shutil.rmtree(path, ignore_errors=True)


def merged_name(order: Order) -> str:
    """The merged file's name."""
    return f"{order.version.manifest.name.replace('#', 'sharp')}-{order.kind}.gguf"


def _gguf(order: Order, folder: Path, progress: Progress) -> tuple[dict[str, Any], str]:
    name = merged_name(order)
    survival = _merged(order, folder / name, progress)
    _copy(order.version.lora, folder / LORA_GGUF)
    note = _note(order, survival)
    manifest = order.version.manifest
    # Suffix first, as it was trained; of no use where no infilling tokens were taught.
    infilling = " --spm-infill" if manifest.fim else ""
    text = (
        f"# {manifest.name} {manifest.version}, adapted by FLeX-Assist\n\n"
        f"- `{name}`: {manifest.base_model} + adapter, for "
        f"`llama-server -m {name}{infilling}`; {note}.\n"
        f"- `{LORA_GGUF}`: the adapter alone, for `llama-server -m BASE --lora {LORA_GGUF}`.\n"
        f"- Base: {manifest.base_model}, sha256 {manifest.base_sha256}.\n"
    )
    (folder / README).write_text(text, encoding="utf-8")
    return survival, note


def _peft(order: Order, folder: Path, progress: Progress) -> tuple[None, str]:
    _copy_peft(order.version, folder)
    optional = order.version.folder / IMATRIX_GGUF
    if optional.is_file():
        _copy(optional, folder / IMATRIX_GGUF)
    return None, f"{manifests.FILE_NAME} names the files that were trained on"


def _ollama(order: Order, folder: Path, progress: Progress) -> tuple[dict[str, Any], str]:
    name = merged_name(order)
    survival = _merged(order, folder / name, progress)
    text = ollama.modelfile(folder / name, name, order.version.manifest.fim)
    (folder / ollama.FILE_NAME).write_text(text, encoding="utf-8")
    return survival, _note(order, survival)


def _vllm(order: Order, folder: Path, progress: Progress) -> tuple[None, str]:
    versions = {one.manifest.name: one for one in order.others}
    versions[order.version.manifest.name] = order.version
    ranks = []
    for name, version in sorted(versions.items()):
        (folder / name).mkdir(mode=0o700)
        _copy_peft(version, folder / name)
        ranks.append(int(json.loads((folder / name / PEFT_CONFIG).read_text())["r"]))
    modules = " ".join(f"'{name}=./{name}'" for name in sorted(versions))
    script = (
        "#!/bin/sh\n"
        f"# Give the folder or name of the base: {order.version.manifest.base_model}\n"
        'base="${1:?the base model}"\n'
        # The name of a model on a hub stays as it is.
        'if [ -d "$base" ]; then base="$(cd "$base" && pwd)"; fi\n'
        'cd "$(dirname "$0")" || exit 1\n'
        "shift\n"
        # By default one batch holds one adapter only, and developers of another language wait.
        f'exec vllm serve "$base" --enable-lora --max-loras {len(ranks)} '
        f'--max-lora-rank {_served_rank(max(ranks))} --lora-modules {modules} "$@"\n'
    )
    (folder / "serve.sh").write_text(script, encoding="utf-8")
    return None, "start it by `sh serve.sh BASE`; ask for a language by the model's name"


def _served_rank(rank: int) -> int:
    """The least rank of those that vLLM has room for."""
    return next((served for served in VLLM_RANKS if served >= rank), rank)


_WRITERS: Final[dict[str, Callable[[Order, Path, Progress], tuple[dict[str, Any] | None, str]]]] = {
    "gguf": _gguf,
    "peft": _peft,
    "ollama": _ollama,
    "vllm": _vllm,
}


def _merged(order: Order, target: Path, progress: Progress) -> dict[str, Any]:
    """Write base + update in the type asked for; what is left of the update in it.

    In Q8_0 it is the very file that was measured and is served.
    """
    # Imported here: the command line starts without numpy.
    from flex_assist.models.provenance import Provenance
    from flex_assist.models.survival import survival

    version, manifest = order.version, order.version.manifest
    if digest(order.base) != manifest.base_sha256:
        raise ExportError(
            f"{str(order.base)!r} is not the base that {manifest.name} {manifest.version} was "
            f"trained on ({manifest.base_model}, sha256 {manifest.base_sha256}); give that file"
        )
    if order.kind == SERVED_TYPE and version.merged is not None:
        _copy(version.merged, target)
        return survival(order.base, version.lora, target).record()
    provenance = Provenance(
        base_name=manifest.base_model,
        base_sha256=manifest.base_sha256,
        adapter=manifest.name,
        version=manifest.version,
        adapter_sha256=digest(version.lora),
    )
    matrix = version.folder / IMATRIX_GGUF
    parts = Parts(
        base=order.base, lora=version.lora, fim=manifest.fim,
        matrix=matrix if matrix.is_file() else None, provenance=provenance,
    )  # fmt: skip
    gain = write_form(parts, target, order.kind, progress=progress)
    return {**survival(order.base, version.lora, target).record(), "most_gain": round(gain, 3)}


def _note(order: Order, survival: dict[str, Any]) -> str:
    kept = f"what was learnt is in it with a cosine of {survival['mean']:.2f}"
    if (gain := survival.get("most_gain", 1)) >= LEAST_GAIN_TOLD:
        kept += f", merged up to {gain:.2f} times as long, as much as rounding takes of it"
    if order.kind in FOUR_BITS:
        return f"{kept}: for programs that need 4 bits; {SERVED_TYPE} answers better"
    return kept


def _check_artefacts(version: AdapterVersion) -> None:
    manifest = version.manifest
    for name in (LORA_GGUF, MERGED_GGUF, IMATRIX_GGUF, *PEFT_FILES[:2]):
        path, wanted = version.folder / name, manifest.artefacts.get(name)
        if wanted is not None and (not path.is_file() or digest(path) != wanted):
            raise ExportError(
                f"{name!r} of {manifest.name} {manifest.version} is missing or has changed; "
                "take another version, or run `flex-assist adapt` again"
            )


def _copy_peft(version: AdapterVersion, folder: Path) -> None:
    for name in PEFT_FILES:
        path = version.folder / name
        if not path.is_file():
            raise ExportError(
                f"{version.manifest.name} {version.manifest.version} has no {name!r}: it was "
                "imported from a GGUF file; use --format gguf"
            )
        _copy(path, folder / name)


def _copy(source: Path, target: Path) -> None:
    quantize.check_space(target, source.stat().st_size)
    shutil.copyfile(source, target)


def _put(made: Path, order: Order) -> tuple[Path, ...]:
    """Move the files to their places, private and on the disk."""
    found = sorted(path for path in made.rglob("*") if path.is_file())
    places = [order.target / path.relative_to(made) for path in found]
    there = [place for place in places if os.path.lexists(place)]
    if there and not order.force:
        raise ConfigError(f"{str(there[0])!r} exists; give another folder, or --force")
    for path, place in zip(found, places, strict=True):
        path.chmod(0o600)
        with path.open("rb") as written:
            os.fsync(written.fileno())
        private_directory(place.parent)
        path.replace(place)
    return tuple(places)
