"""The base models that the product knows by name."""

import functools
import importlib.resources
import importlib.util
import tomllib
from dataclasses import dataclass
from pathlib import Path

from flex_assist.errors import MissingExtraError, ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueEntry:
    """One base model.

    Attributes:
        package: Import name of the Python package that ships the file.
        fim_sentinels: Texts of the control tokens that ``adapt`` may teach as infilling tokens:
            suffix, prefix, middle, end.
    """

    name: str
    label: str
    licence: str
    architecture: str
    package: str
    file: str
    extra: str
    fim_sentinels: tuple[str, str, str, str] | None = None


@functools.cache
def catalogue() -> dict[str, CatalogueEntry]:
    """All entries by name."""
    text = importlib.resources.files(__package__).joinpath("catalogue.toml").read_text()
    return {name: _entry(name, record) for name, record in tomllib.loads(text).items()}


def _entry(name: str, record: dict[str, object]) -> CatalogueEntry:
    fields = dict(record)
    sentinels = fields.pop("fim_sentinels", None)
    if isinstance(sentinels, list):
        fields["fim_sentinels"] = tuple(sentinels)
    return CatalogueEntry(name=name, **fields)  # type: ignore[arg-type]


def packaged_file(entry: CatalogueEntry) -> Path:
    """The entry's GGUF file, without importing the package that ships it.

    Raises:
        MissingExtraError: The package is not installed.
        ModelError: It is installed without the file.
    """
    spec = importlib.util.find_spec(entry.package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(f"the model {entry.name!r}", entry.extra)
    path = Path(next(iter(spec.submodule_search_locations))) / entry.file
    if not path.is_file():
        raise ModelError(f"{path} is missing: install the package {entry.package!r} again")
    return path
