"""The base models that the product knows by name."""

import functools
import importlib.resources
import importlib.util
import tomllib
from dataclasses import dataclass
from pathlib import Path

from flex_assist.errors import MissingExtraError, ModelError
from flex_assist.models.shape import ModelShape


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueEntry:
    """One base model. It has either a package or a repository.

    Attributes:
        file: Name of the GGUF file inside the package, or a pattern for the one in the repository.
        package: Import name of the Python package that ships the file.
        extra: The extra of this distribution that brings the package.
        repository: On the hub, with GGUF files.
        weights: On the hub, with the same weights as safetensors.
        fim: Texts of the model's own infilling tokens: prefix, suffix, middle.
        fim_sentinels: Texts of the control tokens that ``adapt`` may teach as infilling tokens:
            suffix, prefix, middle, end.
        chat: Whether the file has a template for chat.
    """

    name: str
    label: str
    licence: str
    architecture: str
    file: str
    shape: ModelShape
    package: str | None = None
    extra: str | None = None
    repository: str | None = None
    weights: str | None = None
    fim: tuple[str, str, str] | None = None
    fim_sentinels: tuple[str, str, str, str] | None = None
    chat: bool = False


@functools.cache
def catalogue() -> dict[str, CatalogueEntry]:
    """All entries by name."""
    text = importlib.resources.files(__package__).joinpath("catalogue.toml").read_text("utf-8")
    return {name: _entry(name, record) for name, record in tomllib.loads(text).items()}


def _entry(name: str, record: dict[str, object]) -> CatalogueEntry:
    fields = {
        key: tuple(value) if isinstance(value, list) else value for key, value in record.items()
    }
    shape = fields.pop("shape")
    assert isinstance(shape, dict)
    return CatalogueEntry(name=name, shape=ModelShape(**shape), **fields)  # type: ignore[arg-type]


def packaged_file(entry: CatalogueEntry) -> Path:
    """The entry's GGUF file, without importing the package that ships it.

    Raises:
        MissingExtraError: The package is not installed.
        ModelError: It is installed without the file, or no package ships it.
    """
    if entry.package is None or entry.extra is None:
        raise ModelError(
            f"the model {entry.name!r} is not on this machine; "
            f"fetch it with `flex-assist models pull {entry.name}`"
        )
    spec = importlib.util.find_spec(entry.package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(f"the model {entry.name!r}", entry.extra)
    path = Path(next(iter(spec.submodule_search_locations))) / entry.file
    if not path.is_file():
        raise ModelError(f"{path} is missing: install the package {entry.package!r} again")
    return path
