"""Taking in an adapter that was exported elsewhere. Nothing of it is trusted."""

import difflib
import json
import math
import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np

from flex_assist.adapters import manifest as manifests
from flex_assist.adapters.manifest import (
    FILE_NAME,
    IMATRIX_GGUF,
    LORA_GGUF,
    MERGED_GGUF,
    PEFT_CONFIG,
    PEFT_WEIGHTS,
    READABLE_FROM,
    SCHEMA,
    Manifest,
)
from flex_assist.adapters.registry import IMPORTED, AdapterVersion, Registry, new_version
from flex_assist.adapters.routes import SHARED
from flex_assist.errors import ConfigError, DataError, ExportError
from flex_assist.files import digest
from flex_assist.language import BY_NAME
from flex_assist.models import merging
from flex_assist.models.architectures import Layout, layout
from flex_assist.models.gguf_file import architecture, field, open_gguf, shape_of
from flex_assist.models.importance import read_importance
from flex_assist.models.lora_gguf import LoraModule, write_lora, write_updates
from flex_assist.models.provenance import LoraIdentity, Provenance, lora_identity
from flex_assist.models.safetensors_files import read_matrices
from flex_assist.models.survival import stored_updates

MOST_BYTES: Final[Mapping[str, int]] = {
    PEFT_WEIGHTS: 8 << 30,
    PEFT_CONFIG: 1 << 20,
    FILE_NAME: 256 << 20,
    IMATRIX_GGUF: 1 << 30,
    LORA_GGUF: 8 << 30,
}
# A LoRA file as it came, before it is written anew.
GIVEN: Final = "given.gguf"
# PEFT's name of a module's part, around the module's own.
BEFORE, AFTER_A, AFTER_B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
# What PEFT can do beyond scale * B A; a GGUF file cannot say it.
UNKNOWN_FORMS = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Base:
    """The base of what is taken in: opened and digested once, for it may be large.

    Attributes:
        shapes: Of its tensors, by name: (out, in).
        vocabulary: How many tokens it knows.
    """

    path: Path
    sha256: str
    layout: Layout
    shapes: Mapping[str, tuple[int, ...]]
    vocabulary: int

    @classmethod
    def read(cls, path: Path) -> "_Base":
        reader = open_gguf(path)
        return cls(
            path=path,
            sha256=digest(path),
            layout=layout(reader, architecture(reader)),
            shapes={tensor.name: shape_of(tensor) for tensor in reader.tensors},
            vocabulary=len(field(reader, gguf.Keys.Tokenizer.LIST, [])),
        )

    def check(self, source: Path, name: str, sha256: str) -> None:
        """Refuse an adapter that says that it is of another base."""
        if sha256 != self.sha256:
            raise ExportError(
                f"{str(source)!r} is an adapter of {name} with the sha256 {sha256[:16]}…, not of "
                f"{str(self.path)!r}; give its base by --base"
            )


def import_folder(folder: Path, base: Path, registry: Registry) -> AdapterVersion:
    """Take in what ``adapters export --format peft`` wrote, as an inactive version.

    Args:
        base: The base's GGUF file.

    Raises:
        DataError: A file is missing, is a link, or is damaged; or the version is there already.
        ExportError: It is an adapter of another base, or of a form that cannot be served.
        ModelError: The weights are damaged.
    """
    found = told(folder)
    if found.version in registry.version_names(found.name):
        raise DataError(
            f"{found.name}/{found.version} is here already; remove it before: `flex-assist "
            f"adapters remove {found.name}/{found.version}`"
        )
    own = _Base.read(base)
    own.check(folder, found.base_model, found.base_sha256)
    tokens = asdict(found.fim).values() if found.fim else ()
    if not all(0 <= token < own.vocabulary for token in tokens):
        raise DataError(
            f"{FILE_NAME!r} in {str(folder)!r} names infilling tokens that its base does not "
            "know; export it again"
        )
    staged = registry.stage(found.name)
    try:
        for name in (PEFT_WEIGHTS, PEFT_CONFIG, IMATRIX_GGUF):
            if name == IMATRIX_GGUF and not os.path.lexists(folder / name):
                continue
            _take(folder / name, staged / name, found.artefacts.get(name))
        _write_gguf(staged, own, found)
        return _publish(staged, found, base, registry)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def told(folder: Path) -> Manifest:
    """What a folder's manifest says; it must have digests of what is to be taken in.

    Raises:
        DataError: A file is missing, is a link, or is damaged.
    """
    for name in (PEFT_WEIGHTS, PEFT_CONFIG, FILE_NAME):
        _check_file(folder / name)
    found = manifests.read(folder)
    artefacts: object = found.artefacts
    known = isinstance(artefacts, dict) and isinstance(found.details, dict)
    if not known or not {PEFT_WEIGHTS, PEFT_CONFIG} <= found.artefacts.keys():
        raise DataError(f"{FILE_NAME!r} in {str(folder)!r} has no digests; export it again")
    return found


def import_gguf(
    lora: Path, name: str | None, base: Path, base_model: str, registry: Registry
) -> AdapterVersion:
    """Take in a LoRA GGUF file, as an inactive version.

    PEFT's files are not made from it: such a version can be served, and not trained further.

    Args:
        name: The adapter's; None takes what the file says.

    Raises:
        DataError, ExportError, ModelError: See ``import_folder``.
    """
    _check_file(lora, MOST_BYTES[LORA_GGUF])
    own = _Base.read(base)
    identity = _identified(lora, own)
    chosen = _chosen(name, identity, lora)
    staged = registry.stage(chosen)
    try:
        given = staged / GIVEN
        _take(lora, given, None)
        _rewrite(given, staged / LORA_GGUF, own, identity, lora)
        given.unlink()
        found = Manifest(
            name=chosen,
            version=new_version(),
            languages=(chosen,),
            base_model=base_model,
            base_sha256=own.sha256,
            fim=identity.fim if identity else None,
            verdict=IMPORTED,
            reason="",
        )
        return _publish(staged, found, base, registry)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _rewrite(
    given: Path, target: Path, base: _Base, identity: LoraIdentity | None, source: Path
) -> None:
    """The file anew, from its numbers alone: its metadata would go to native code.

    Args:
        source: What to call it in messages.

    Raises:
        ExportError, ModelError: It is damaged, or of another model.
    """
    own = architecture(open_gguf(given))
    updates = {name: (one.a, one.b) for name, one in stored_updates(given).items()}
    shapes = {name: (b.shape[0], a.shape[1]) for name, (a, b) in updates.items()}
    wrong = next((name for name, one in shapes.items() if base.shapes.get(name) != one), None)
    if wrong is not None or own != base.layout.architecture:
        raise ExportError(
            f"{str(source)!r} is an adapter of another model than {str(base.path)!r} "
            f"({own if wrong is None else wrong!r} differs); give its base by --base"
        )
    odd = next((name for name in updates if not name.startswith("blk.")), None)
    if odd is not None:
        raise ExportError(
            f"{str(source)!r} changes {odd!r}; adapters of the layers of blocks can be served"
        )
    if not all(np.isfinite(part).all() for pair in updates.values() for part in pair):
        raise ExportError(f"{str(source)!r} holds values that are no numbers; export it again")
    write_updates(target, own, updates, identity)


def _identified(lora: Path, base: _Base) -> LoraIdentity | None:
    """What a LoRA file says of itself; None where it is of another make and says nothing.

    Raises:
        ExportError: It says that it is of another base.
        ModelError: A file is damaged.
    """
    reader = open_gguf(lora)
    if field(reader, gguf.Keys.General.TYPE) != gguf.GGUFType.ADAPTER:
        raise ExportError(
            f"{str(lora)!r} is a model and no LoRA adapter; of an export, give adapter.gguf or the "
            "whole folder; a merged model is used by `flex-assist models add`"
        )
    found = lora_identity(reader, base.vocabulary)
    if found is not None:
        base.check(lora, found.base_name, found.base_sha256)
    return found


def _chosen(name: str | None, identity: LoraIdentity | None, lora: Path) -> str:
    """The adapter's name: one that is looked up when a file of a language is open."""
    chosen = name or (identity.adapter if identity else None)
    if chosen is None:
        raise ConfigError(f"give the language that {str(lora)!r} is for by --name")
    if chosen not in BY_NAME and chosen != SHARED:
        like = difflib.get_close_matches(chosen, BY_NAME, 1, 0.3)
        hint = f"; did you mean {like[0]!r}?" if like else ""
        raise ConfigError(
            f"{chosen!r} is no language that an adapter can be for{hint} "
            f"Known: {', '.join(sorted(BY_NAME))}"
        )
    return chosen


def _publish(staged: Path, found: Manifest, base: Path, registry: Registry) -> AdapterVersion:
    """Make what is served, check it, and write the manifest anew."""
    provenance = Provenance(
        base_name=found.base_model,
        base_sha256=found.base_sha256,
        adapter=found.name,
        version=found.version,
        adapter_sha256=digest(staged / LORA_GGUF),
    )
    merged = staged / MERGED_GGUF
    served = merging.write_served(base, staged / LORA_GGUF, merged, found.fim, provenance)
    if (staged / IMATRIX_GGUF).is_file():
        read_importance(staged / IMATRIX_GGUF)
    fim = "" if found.fim else ", without infilling tokens: it only goes on with text"
    there = f"; there: {found.reason}" if found.reason else ""
    reason = f"imported, not measured here{fim}{there}"
    made = sorted(staged.iterdir())
    known = replace(
        found,
        verdict=IMPORTED,
        reason=reason,
        details={**found.details, "export": {"forms": {MERGED_GGUF: served}}},
        schema=SCHEMA,
        readable_from=READABLE_FROM,
        artefacts={path.name: digest(path) for path in made},
        sizes={path.name: path.stat().st_size for path in made},
    )
    (staged / FILE_NAME).write_text(manifests.to_json(known))
    for path in staged.iterdir():
        path.chmod(0o600)
    return registry.publish(found.name, staged, found.version)


def _write_gguf(staged: Path, base: _Base, found: Manifest) -> None:
    """The LoRA GGUF from PEFT's files."""
    identity = LoraIdentity(
        base_name=found.base_model,
        base_sha256=found.base_sha256,
        adapter=found.name,
        fim=found.fim,
    )
    scale, rank = _scale(staged / PEFT_CONFIG)
    tensors = read_matrices(staged / PEFT_WEIGHTS, MOST_BYTES[PEFT_WEIGHTS])
    modules = {}
    for name, a in tensors.items():
        module = name.removeprefix(BEFORE).removesuffix(AFTER_A)
        if not name.startswith(BEFORE) or not name.endswith((AFTER_A, AFTER_B)):
            raise ExportError(f"{name!r} is no part of a LoRA adapter; export it again")
        if name.endswith(AFTER_B):
            continue
        b = tensors.get(f"{BEFORE}{module}{AFTER_B}")
        wanted = base.shapes.get(f"{base.layout.gguf_name(module)}.weight")
        if b is None or a.shape[0] != rank or wanted != (b.shape[0], a.shape[1]):
            raise ExportError(f"{name!r} does not fit the base, whose shape there is {wanted}")
        modules[module] = LoraModule(module=module, a=a, b=b, scale=scale)
    if len(tensors) != 2 * len(modules):
        raise ExportError("the adapter has a B without its A; export it again")
    write_lora(base.path, staged / LORA_GGUF, modules, identity)


def _scale(path: Path) -> tuple[float, int]:
    """LoRA's alpha / rank, and the rank, of an ``adapter_config.json``."""
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
        rank, alpha = config["r"], config["lora_alpha"]
        kind = config["peft_type"]
        special = [key for key in UNKNOWN_FORMS if config.get(key)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path.name!r} cannot be read ({error!r}); export it again") from error
    numbers = type(rank) is int and type(alpha) in (int, float) and 1 <= rank <= 1 << 14
    if kind != "LORA" or special or config.get("bias", "none") != "none" or not numbers:
        raise ExportError(
            f"the adapter is of a form that cannot be served ({kind!r}, r={rank!r}, "
            f"lora_alpha={alpha!r}{', ' if special else ''}{', '.join(special)}); plain LoRA can"
        )
    if not math.isfinite(alpha):
        raise ExportError(f"lora_alpha is {alpha!r}; export it again")
    return alpha / rank, rank


def _check_file(path: Path, most_bytes: int | None = None) -> None:
    """Refuse what is no plain file of a plausible size."""
    try:
        status = path.lstat()
    except OSError as error:
        raise DataError(
            f"{str(path)!r} cannot be read ({error.strerror}); give a folder that "
            "`adapters export --format peft` wrote, or a LoRA GGUF file"
        ) from error
    most = MOST_BYTES[path.name] if most_bytes is None else most_bytes
    if not stat.S_ISREG(status.st_mode) or status.st_size > most:
        raise DataError(f"{str(path)!r} is a link, no file, or larger than {most} bytes")


def _take(source: Path, target: Path, wanted: str | None) -> None:
    """Copy a file; where it should have a digest, it must."""
    _check_file(source, MOST_BYTES[LORA_GGUF if target.name == GIVEN else target.name])
    shutil.copyfile(source, target, follow_symlinks=False)
    if target.is_symlink():
        raise DataError(f"{str(source)!r} is a link; copy the file itself")
    if wanted is not None and digest(target) != wanted:
        raise DataError(f"{str(source)!r} is not what was exported: its digest differs")
