"""What our files say of themselves: where they come from, and what other programs must know."""

from dataclasses import dataclass

import gguf

from flex_assist import __version__
from flex_assist.errors import ModelError
from flex_assist.models.fim import FimTokens
from flex_assist.models.gguf_file import field

PREFIX = "flex_assist."
# The parts of ``FimTokens``; the first three as llama.cpp calls them in a model.
FIM_KEYS = {
    "suffix_id": gguf.Keys.Tokenizer.FIM_SUF_ID,
    "prefix_id": gguf.Keys.Tokenizer.FIM_PRE_ID,
    "middle_id": gguf.Keys.Tokenizer.FIM_MID_ID,
    "end_id": f"{PREFIX}fim_end_token_id",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Which base and which adapter. No path and no text of the repository.

    Attributes:
        base_sha256: Of the base's file, as trained on.
        adapter: The adapter's name: a language, or ``shared``.
        adapter_sha256: Of its LoRA GGUF file.
    """

    base_name: str
    base_sha256: str
    adapter: str
    version: str
    adapter_sha256: str

    def metadata(self) -> dict[str, str]:
        """As keys of a GGUF file."""
        return {
            gguf.Keys.General.NAME: f"{self.base_name} + {self.adapter}",
            f"{PREFIX}version": __version__,
            f"{PREFIX}base.name": self.base_name,
            f"{PREFIX}base.sha256": self.base_sha256,
            f"{PREFIX}adapter.name": self.adapter,
            f"{PREFIX}adapter.version": self.version,
            f"{PREFIX}adapter.sha256": self.adapter_sha256,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraIdentity:
    """What a LoRA file says of itself, so that it can be taken in without its manifest.

    Attributes:
        adapter: The adapter's name: a language, or ``shared``.
    """

    base_name: str
    base_sha256: str
    adapter: str
    fim: FimTokens | None

    def metadata(self) -> dict[str, str | int]:
        """As keys of a GGUF file. The same training gives the same file: no version, no date."""
        found: dict[str, str | int] = {
            f"{PREFIX}base.name": self.base_name,
            f"{PREFIX}base.sha256": self.base_sha256,
            f"{PREFIX}adapter.name": self.adapter,
        }
        if self.fim is not None:
            found |= {key: getattr(self.fim, part) for part, key in FIM_KEYS.items()}
        return found


def lora_identity(reader: gguf.GGUFReader, vocabulary: int) -> LoraIdentity | None:
    """What a LoRA file, which is untrusted, says of itself; None for one of another make.

    Args:
        vocabulary: How many tokens its base knows.

    Raises:
        ModelError: It says something that cannot be.
    """
    keys = (f"{PREFIX}base.name", f"{PREFIX}base.sha256", f"{PREFIX}adapter.name")
    texts = [field(reader, key) for key in keys]
    ids = {part: field(reader, key) for part, key in FIM_KEYS.items()}
    if texts == [None] * len(keys):
        return None
    known = {part: token for part, token in ids.items() if token is not None}
    right = all(type(token) is int and 0 <= token < vocabulary for token in known.values())
    if not all(isinstance(text, str) for text in texts) or not right or len(known) not in (0, 4):
        raise ModelError("what the adapter says of itself cannot be; export it again")
    fim = FimTokens(**known) if known else None
    name, sha256, adapter = texts
    return LoraIdentity(base_name=name, base_sha256=sha256, adapter=adapter, fim=fim)


def fim_metadata(reader: gguf.GGUFReader, fim: FimTokens | None) -> dict[str, int]:
    """The infilling tokens, as llama.cpp's server and editor plug-ins look for them.

    Generation stops at the token that ends text and at the one that ends a turn. A token that ends
    a middle and is neither is written down as the latter, where the base has none.
    """
    if fim is None:
        return {}
    keys = gguf.Keys.Tokenizer
    found = {
        keys.FIM_SUF_ID: fim.suffix_id,
        keys.FIM_PRE_ID: fim.prefix_id,
        keys.FIM_MID_ID: fim.middle_id,
    }
    ends = {key: field(reader, key) for key in (keys.EOS_ID, keys.EOT_ID, keys.EOM_ID)}
    if fim.end_id not in ends.values():
        free = next((key for key in (keys.EOT_ID, keys.EOM_ID) if ends[key] is None), None)
        if free is not None:
            found[free] = fim.end_id
    return found
