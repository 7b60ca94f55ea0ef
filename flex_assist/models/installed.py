"""Models that somebody fetched or added: a record for each, under ``data/models/installed``.

A record says where the file is and what it was when it came. A file that is no longer the same is
refused: adapters are made for exactly one base.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from flex_assist.errors import ConfigError, ModelError
from flex_assist.files import write_json_atomically
from flex_assist.locations import Locations, private_directory
from flex_assist.models.digests import sha256
from flex_assist.models.untrusted import read_table

SCHEMA = 1
RECORD, GGUF_FILE = "model.json", "model.gguf"
Encoder = Callable[[Path], Callable[[str], list[int]]]
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledModel:
    """What is remembered of a model.

    Attributes:
        path: Its GGUF file; inside the record's own folder if the product fetched it.
        source: Where it came from, for people.
        architecture: The family, from the file.
        licence: As far as it is known.
    """

    name: str
    path: Path
    sha256: str
    size_bytes: int
    source: str
    architecture: str
    licence: str | None = None


def folder(name: str, locations: Locations) -> Path:
    """Where the record of ``name`` is, and its file if it was fetched.

    Raises:
        ConfigError: No model can have this name.
    """
    if not NAME.fullmatch(name) or ".." in name:
        raise ConfigError(
            f"{name!r} cannot be a model's name; give one by --name, of small letters, digits, "
            "'.', '-' and '_'"
        )
    return locations.models / "installed" / name


def record(model: InstalledModel, locations: Locations) -> None:
    """Remember ``model``, atomically; a record of the same name is replaced."""
    place = private_directory(folder(model.name, locations))
    values = {"schema": SCHEMA, **asdict(model), "path": str(model.path)}
    write_json_atomically(place / RECORD, values)


def read(name: str, locations: Locations) -> InstalledModel | None:
    """The record of ``name``; none if there is none.

    Raises:
        ModelError: It is damaged, or of another version of the product.
    """
    if not NAME.fullmatch(name) or ".." in name:
        return None
    place = folder(name, locations) / RECORD
    try:
        values = read_table(place)
        if values.pop("schema") != SCHEMA:
            raise ValueError("it was written by another version of the product")
        return InstalledModel(path=Path(values.pop("path")), **values)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"the record {str(place)!r} cannot be used ({error}); "
            f"run `flex-assist models remove {name}` and add or pull it again"
        ) from error


def names(locations: Locations) -> list[str]:
    """Names of all models with a record."""
    return sorted(path.parent.name for path in (locations.models / "installed").glob(f"*/{RECORD}"))


def remove(name: str, locations: Locations) -> int:
    """Forget a model and delete what the product fetched; gives the bytes that became free.

    A file that was only added stays where it is.

    Raises:
        ConfigError: There is no such model.
    """
    place = folder(name, locations)
    if not place.is_dir():
        known = ", ".join(names(locations)) or "none"
        raise ConfigError(f"no model {name!r} was fetched or added; there are: {known}")
    freed = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    # The record goes first: a model is there whole or not at all.
    (place / RECORD).unlink(missing_ok=True)
    shutil.rmtree(place)
    return freed


def check(model: InstalledModel, locations: Locations) -> None:
    """See that the file is still the one that was recorded.

    The digest is computed again only where size or time of change differ from last time.

    Raises:
        ModelError: It has vanished or is another.
    """
    advice = f"pull or add {model.name!r} again, or run `flex-assist models remove {model.name}`"
    if not model.path.is_file():
        raise ModelError(f"the model file {str(model.path)!r} has vanished; {advice}")
    size = model.path.stat().st_size
    if size != model.size_bytes:
        raise ModelError(
            f"the model file {str(model.path)!r} has {size} bytes, not {model.size_bytes} as when "
            f"it came; {advice}"
        )
    found = sha256(model.path, locations)
    if found != model.sha256:
        raise ModelError(
            f"the model file {str(model.path)!r} has changed (sha256 {found[:16]}…, "
            f"not {model.sha256[:16]}…); {advice}"
        )


def faults(locations: Locations) -> Iterator[tuple[str, str]]:
    """Name and fault of each installed model that cannot be used, for ``doctor``."""
    for name in names(locations):
        try:
            if model := read(name, locations):
                check(model, locations)
        except ModelError as error:
            yield name, str(error)


def add_file(path: Path, name: str, locations: Locations) -> InstalledModel:
    """Remember a GGUF file that stays where it is.

    Raises:
        ConfigError: The name is taken or cannot be one.
        ModelError: It is not a model that can be served.
    """
    # Imported here: front ends look models up without numpy.
    from flex_assist.models.gguf_file import architecture, field, open_gguf

    _check_free(name, locations)
    # Before the path is followed: a link may lead in a circle.
    reader = open_gguf(path)
    if not reader.tensors:
        raise ModelError(f"{str(path)!r} holds no weights; add the file of a whole model")
    real = path.resolve()
    kind = field(reader, "general.type", "model")
    if kind != "model":
        raise ModelError(f"{str(path)!r} is not a model but of the type {kind!r}; add its base")
    licence = field(reader, "general.license")
    model = InstalledModel(
        name=name,
        path=real,
        sha256=sha256(real, locations),
        size_bytes=real.stat().st_size,
        source=f"added from {real}",
        architecture=architecture(reader),
        licence=licence if isinstance(licence, str) else None,
    )
    record(model, locations)
    return model


def add_folder(path: Path, name: str, locations: Locations, encoder: Encoder) -> InstalledModel:
    """Convert a Hugging Face folder to a GGUF file of the product's own, and remember that.

    Args:
        encoder: Makes what turns text into token ids from a GGUF file.

    Raises:
        ConfigError: The name is taken or cannot be one.
        ModelError: The folder is damaged or not supported.
    """
    from flex_assist.models.hf_folder import convert

    _check_free(name, locations)
    target = folder(name, locations) / GGUF_FILE
    family = convert(path, target, encoder)
    model = InstalledModel(
        name=name,
        path=target,
        sha256=sha256(target, locations),
        size_bytes=target.stat().st_size,
        source=f"converted from {path.resolve()}",
        architecture=family,
    )
    record(model, locations)
    return model


def _check_free(name: str, locations: Locations) -> None:
    if (folder(name, locations) / RECORD).is_file():
        raise ConfigError(
            f"there is a model {name!r} already; give another --name, or run "
            f"`flex-assist models remove {name}` before"
        )
