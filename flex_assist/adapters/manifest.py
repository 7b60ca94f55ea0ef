"""What is recorded of an adapter version."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flex_assist.adapters import schema as schemas
from flex_assist.errors import DataError
from flex_assist.models.fim import FimTokens

SCHEMA = 1
# The least schema whose readers can use what is written now.
READABLE_FROM = 1
FILE_NAME = "manifest.json"
LORA_GGUF = "adapter.gguf"
MERGED_GGUF = "merged-q8_0.gguf"
IMATRIX_GGUF = "imatrix.gguf"
PEFT_WEIGHTS, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
REPORT_HTML = "report.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One adapter version.

    Attributes:
        name: The adapter's name: a language, or ``shared``.
        languages: Languages it was trained on and may answer for.
        base_sha256: Digest of the base model's file.
        data: One record a file: path, sha256, verdict, rule. The verdict ``inherited`` stands for
            what only the parent was trained on, or its parents.
        metrics: Before and after, by language.
        artefacts: File name to SHA-256; not of the report, which shows these very digests.
        sizes: File name to bytes, of the same files; empty in old manifests.
        details: Hyper-parameters, seeds, package versions, device, tokens, seconds, memory.
        parent: The version of the same name whose weights training began with; None if it began
            anew.
    """

    name: str
    version: str
    languages: tuple[str, ...]
    base_model: str
    base_sha256: str
    fim: FimTokens | None
    verdict: str
    reason: str
    metrics: dict[str, Any] = field(default_factory=dict)
    data: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    artefacts: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    parent: str | None = None
    schema: int = SCHEMA
    readable_from: int = READABLE_FROM


def to_json(manifest: Manifest) -> str:
    """The manifest as the text of its file."""
    return json.dumps(asdict(manifest), indent=2, sort_keys=True, ensure_ascii=True) + "\n"


def read(folder: Path) -> Manifest:
    """The manifest of a version folder.

    Raises:
        DataError: It is missing or damaged; TooNewError if only newer readers understand it.
    """
    path = folder / FILE_NAME
    try:
        record = schemas.read_json(path, SCHEMA)
        _check_types(record)
        fim = record["fim"]
        record["fim"] = FimTokens(**fim) if fim is not None else None
        record["languages"] = tuple(record["languages"])
        known = {key: record[key] for key in Manifest.__dataclass_fields__ if key in record}
        return Manifest(**known)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path} cannot be read ({error!r}); remove that version") from error


def _check_types(record: dict[str, Any]) -> None:
    """Raise ``TypeError`` where a value that others compute with is of another type."""
    texts = ("name", "version", "base_model", "base_sha256", "verdict", "reason")
    kinds = dict.fromkeys(texts, str) | {"languages": list, "metrics": dict, "data": list}
    kinds |= {"artefacts": dict, "sizes": dict}
    for key, kind in kinds.items():
        if not isinstance(record.get(key, kind()), kind):
            raise TypeError(f"{key!r} is {record[key]!r}")
    if not all(isinstance(one, str) for one in record["languages"]):
        raise TypeError(f"'languages' is {record['languages']!r}")
    if not all(isinstance(one, dict) and "verdict" in one for one in record.get("data", [])):
        raise TypeError("'data' has an entry without a verdict")
    if not isinstance(record.get("parent"), str | None):
        raise TypeError(f"'parent' is {record['parent']!r}")
    fim = record["fim"]
    known = fim is None or isinstance(fim, dict)
    if not known or not all(type(one) is int for one in (fim or {}).values()):
        raise TypeError(f"'fim' is {fim!r}")
