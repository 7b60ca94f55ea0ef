"""Fetching models from the hub: only when asked to.

What a file must be is taken from the hub before it is fetched: its size, and the SHA-256 that the
hub keeps for large files. A download that was cut goes on where it stopped, in another process too;
what arrived becomes a model only if the digest agrees.
"""

import fnmatch
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from flex_assist.errors import MissingExtraError, ModelError, how_to_install
from flex_assist.files import private_file
from flex_assist.locations import Locations, private_directory
from flex_assist.locks import exclusive
from flex_assist.models import installed
from flex_assist.models.catalogue import CatalogueEntry
from flex_assist.models.digests import remember, sha256_now
from flex_assist.models.installed import GGUF_FILE, InstalledModel

LARGE_BYTES = 100_000_000
# Beside the file itself: records, and other processes at work.
SPARE_BYTES = 64_000_000
# A cut loses what is not yet written: the hub's package would hold back 10 MB.
CHUNK_BYTES = 1 << 18
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A file on the hub.

    Attributes:
        commit: The revision that was found, so that nothing changes in between.
        url: Where it is fetched.
        done_bytes: What an earlier, cut download left of it.
    """

    entry: CatalogueEntry
    repository: str
    commit: str
    file: str
    url: str
    sha256: str
    size_bytes: int
    done_bytes: int


def look_up(
    entry: CatalogueEntry,
    locations: Locations,
    *,
    revision: str | None = None,
    endpoint: str | None = None,
) -> Offer:
    """Ask the hub for the file of ``entry``; nothing of it is fetched yet.

    Args:
        revision: A branch, tag or commit; none takes the newest.
        endpoint: The address of a mirror; none takes ``HF_ENDPOINT``, or the hub's own.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        ModelError: The hub cannot be reached, refuses, or has no such file or no digest of it.
    """
    repository = _repository(entry)
    _prepare()
    from huggingface_hub import HfApi, hf_hub_url

    address = endpoint or os.environ.get("HF_ENDPOINT") or None
    with _explained(entry):
        api = HfApi(endpoint=address)
        info = api.model_info(repository, revision=revision, files_metadata=True)
    files = {one.rfilename: one.lfs for one in info.siblings or ()}
    name = _choose(entry, list(files))
    large = files[name]
    if large is None or info.sha is None:
        raise ModelError(f"the hub has no digest of {name!r} in {repository!r}; not fetched")
    return Offer(
        entry=entry,
        repository=repository,
        commit=info.sha,
        file=name,
        url=hf_hub_url(repository, name, revision=info.sha, endpoint=address),
        sha256=large.sha256,
        size_bytes=large.size,
        done_bytes=_bytes_of(_part(entry, large.sha256, locations)),
    )


def fetch(offer: Offer, locations: Locations, progress: Progress) -> InstalledModel:
    """Fetch the file, check it, and record the model.

    Args:
        progress: Told how many bytes are there, and of how many.

    Raises:
        BusyError: Another process fetches it.
        ModelError: There is no room, the connection failed for good, or the file is not the one
            that the hub promised or the catalogue expects.
    """
    entry = offer.entry
    place = private_directory(installed.folder(entry.name, locations))
    lock = place.parent / f".{entry.name}.lock"
    with exclusive(lock, what=f"the download of {entry.name!r}"):
        part = _part(entry, offer.sha256, locations)
        for other in set(place.glob("*.part")) - {part}:
            other.unlink()
        _check_room(offer, place)
        _download(offer, part, progress)
        _check_digest(offer, part)
        _check_model(offer, part)
        target = place / GGUF_FILE
        part.replace(target)
        remember(target, offer.sha256, locations)
        model = InstalledModel(
            name=entry.name,
            path=target,
            sha256=offer.sha256,
            size_bytes=offer.size_bytes,
            source=f"{offer.repository}@{offer.commit}/{offer.file}",
            architecture=entry.architecture,
            licence=entry.licence,
        )
        installed.record(model, locations)
    return model


def _repository(entry: CatalogueEntry) -> str:
    if entry.repository is None:
        raise ModelError(
            f"{entry.name!r} is not fetched, it comes with a package; where it is missing, "
            f"{how_to_install(str(entry.extra))}"
        )
    return entry.repository


def _choose(entry: CatalogueEntry, names: list[str]) -> str:
    found = [name for name in names if fnmatch.fnmatch(name.lower(), entry.file)]
    if len(found) != 1:
        which = ", ".join(sorted(found or names)[:8]) or "nothing"
        raise ModelError(
            f"{entry.repository!r} should have one file like {entry.file!r}, but has {which}; "
            "fetch one by hand and use `flex-assist models add`"
        )
    return found[0]


def _part(entry: CatalogueEntry, digest: str, locations: Locations) -> Path:
    return installed.folder(entry.name, locations) / f".{digest[:16]}.part"


def _bytes_of(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _check_room(offer: Offer, place: Path) -> None:
    needed = offer.size_bytes - offer.done_bytes + SPARE_BYTES
    free = shutil.disk_usage(place).free
    if free < needed:
        raise ModelError(
            f"{offer.entry.name!r} needs {needed / 1e9:.2f} GB of disk, {free / 1e9:.2f} GB are "
            "free; free some, or set FLEX_ASSIST_HOME to a folder on another disk"
        )


def _download(offer: Offer, part: Path, progress: Progress) -> None:
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    with private_file(part).open("ab") as file:
        if file.tell() > offer.size_bytes:
            file.truncate(0)
        done = file.tell()
        with _explained(offer.entry):
            http_get(
                offer.url,
                _Counting(file, offer.size_bytes, progress),
                resume_size=done,
                # Bytes as they are: parts of what was packed for the way do not fit together.
                headers={**build_hf_headers(), "Accept-Encoding": "identity"},
                expected_size=offer.size_bytes,
            )
        file.flush()
        os.fsync(file.fileno())


def _check_digest(offer: Offer, part: Path) -> None:
    found = sha256_now(part)
    if found != offer.sha256:
        part.unlink()
        raise ModelError(
            f"what was fetched of {offer.file!r} is not what the hub keeps (sha256 {found[:16]}…, "
            f"not {offer.sha256[:16]}…); it was deleted: try again, or another mirror"
        )


def _check_model(offer: Offer, part: Path) -> None:
    """Compare the file with what the catalogue says of it."""
    from flex_assist.models.gguf_file import architecture, field, open_gguf

    reader = open_gguf(part)
    found = architecture(reader)
    if found != offer.entry.architecture:
        raise ModelError(
            f"{offer.file!r} is of the family {found!r}, not {offer.entry.architecture!r}; "
            "the catalogue does not fit this revision: choose another with --revision"
        )
    tokens = set(field(reader, "tokenizer.ggml.tokens", ()))
    if missing := [text for text in offer.entry.fim or () if text not in tokens]:
        raise ModelError(
            f"{offer.file!r} has no infilling token {missing[0]!r}; the catalogue does not fit "
            "this revision: choose another with --revision"
        )


def _prepare() -> None:
    """Set the hub's package up: no reports of use, one kind of transfer, no words of its own."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
    try:
        from huggingface_hub import constants
        from huggingface_hub.utils import disable_progress_bars
    except ImportError as error:
        raise MissingExtraError("fetching models", "pull") from error
    constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES
    disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)


@contextmanager
def _explained(entry: CatalogueEntry) -> Iterator[None]:
    """Turn what the hub's package raises into one sentence and what to do."""
    from httpx2 import HTTPError
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = f"{entry.name!r} from {entry.repository!r}"
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise ModelError(f"{where} is not fetched: HF_HUB_OFFLINE is set; unset it") from error
    except GatedRepoError as error:
        raise ModelError(
            f"{where} is given only to those who accept its licence ({entry.licence}): accept it "
            "on the hub's page of the model, and set HF_TOKEN to a token of yours"
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(f"{where}: there is no such revision; leave --revision out") from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"{where}: the hub has no such repository, or shows it only to some; "
            "set HF_TOKEN, or --endpoint to another mirror"
        ) from error
    except (HTTPError, ConnectionError, TimeoutError) as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
            raise ModelError(f"{where}: the hub wants to know who asks; set HF_TOKEN") from error
        raise ModelError(
            f"{where} could not be fetched ({_one_line(error)}); what has arrived is kept: "
            "run the same command again to go on"
        ) from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


class _Counting:
    """A file that tells how much of it is there."""

    def __init__(self, file: BinaryIO, total: int, progress: Progress) -> None:
        self._file, self._total, self._progress = file, total, progress

    def write(self, data: bytes) -> int:
        """Append."""
        written = self._file.write(data)
        self._progress(self._file.tell(), self._total)
        return written

    def tell(self) -> int:
        """Where the next byte goes."""
        return self._file.tell()

    def seek(self, at: int) -> int:
        """Go back; a mirror may not know how to go on in the middle."""
        return self._file.seek(at)

    def truncate(self) -> int:
        """Drop what stands after the place."""
        return self._file.truncate()
