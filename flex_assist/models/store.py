"""Where the files of base models are, and the form in which they are served."""

import errno
import logging
from dataclasses import dataclass
from pathlib import Path

from flex_assist.errors import ConfigError
from flex_assist.locations import Locations, locate
from flex_assist.locks import exclusive
from flex_assist.models import installed
from flex_assist.models.catalogue import CatalogueEntry, catalogue, packaged_file
from flex_assist.models.digests import known_sha256, sha256, stamp

__all__ = [
    "BaseModel", "answering_path", "find", "known_sha256", "name_of", "serving_path", "sha256",
]  # fmt: skip

GGUF_ENDING = ".gguf"
# How long to wait for another process that makes the file of a large model.
MAKING_WAIT_S = 900.0
LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """A base model on this machine.

    Attributes:
        path: The file as shipped or given.
        entry: Its catalogue entry, if it has one.
    """

    name: str
    path: Path
    entry: CatalogueEntry | None


def find(base: str, locations: Locations | None = None) -> BaseModel:
    """The base model of a name or of a path to a GGUF file.

    Raises:
        ConfigError: Neither a known name nor a file.
        MissingExtraError: Known, but the package that ships it is not installed.
        ModelError: Known, but not fetched; or its file is no longer the one that was.
    """
    where = locations or locate()
    entry = catalogue().get(base)
    if model := installed.read(base, where):
        installed.check(model, where)
        return BaseModel(name=base, path=model.path, entry=entry)
    if entry is not None:
        return BaseModel(name=base, path=packaged_file(entry), entry=entry)
    if path := _existing(base):
        return BaseModel(name=name_of(base), path=path, entry=None)
    known = ", ".join(sorted({*catalogue(), *installed.names(where)}))
    raise ConfigError(f"unknown base model {base!r}: give one of {known}, or a path to a GGUF file")


def name_of(base: str) -> str:
    """The name that adapters are recorded under: of a file, its name without the ending.

    Names may have dots, and so only the ending of GGUF files is one.
    """
    name = Path(base).name
    return name.removesuffix(GGUF_ENDING)


def _existing(text: str) -> Path | None:
    try:
        path = Path(text).expanduser()
        return path.resolve() if path.is_file() else None
    # RuntimeError: "~somebody" who is not there. OSError: longer than a path can be.
    except (OSError, RuntimeError, ValueError):
        return None


def serving_path(base: str, locations: Locations) -> Path:
    """The file that is served for ``base``, made on first use.

    A 4- or 5-bit base is kept a second time as Q8_0: on a CPU it reads prompts faster, and Q8_0
    holds what the fewer bits do. Any other file is served as it is.
    """
    model = find(base, locations)
    target = locations.models / f"{model.name[:80]}-{stamp(model.path)}-q8_0.gguf"
    if target.is_file():
        return target
    # Imported here: front ends start without numpy, and mostly find the file made.
    from flex_assist.models.gguf_file import is_low_bit, open_gguf
    from flex_assist.models.quantized import write_model

    if not is_low_bit(open_gguf(model.path)):
        return model.path
    # Editors, the command line and the chat may all be first at once.
    what = f"the form of {model.name!r} that is served"
    with exclusive(target.with_suffix(".lock"), what=what, wait_s=MAKING_WAIT_S):
        if not target.is_file():
            write_model(model.path, target)
    return target


def answering_path(base: str, locations: Locations) -> Path:
    """``serving_path``; where the disk has no room for that, the file as shipped: slower."""
    try:
        return serving_path(base, locations)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        LOG.warning("the disk has no room for %s in the form that is fastest", base)
        return find(base, locations).path
