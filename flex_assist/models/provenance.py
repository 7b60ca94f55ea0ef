"""What a merged file says of itself: where it comes from, and what other programs must know."""

from dataclasses import dataclass

import gguf

from flex_assist import __version__
from flex_assist.models.fim import FimTokens
from flex_assist.models.gguf_file import field

PREFIX = "flex_assist."


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
