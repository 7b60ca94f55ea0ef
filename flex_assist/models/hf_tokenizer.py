"""Byte-level BPE tokenizers of Hugging Face folders, as llama.cpp needs them.

How text is cut before merging is a regular expression in the folder, but a name in GGUF. Names are
not guessed: each that llama.cpp knows is tried until token ids of code agree with the original.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf

from flex_assist.errors import MissingExtraError, ModelError
from flex_assist.models.untrusted import read_table, read_text

FILE, CONFIG, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
# llama.cpp's names of ways to cut text, those of models for code first.
PRE_TOKENIZERS = (
    "qwen2", "smollm", "starcoder", "refact", "deepseek-coder", "llama-bpe", "gpt-2", "default",
    "command-r", "falcon", "stablelm2", "olmo", "dbrx", "gpt-4o", "tekken", "codeshell", "mpt",
)  # fmt: skip
PROBES = (
    "def add(first, second=12345):\n    return first + second  # 3.14\n",
    "\tfor (int i = 0; i < 1000; ++i) {\n\t\tcout << \"x\\n\";\n\t}\r\n\n\n",
    "func (s *Store) Get(key string) ([]byte, error) {\n\n        return nil, err\n}",
    "it's we're I'LL don't HTTPServer fooBar _x1 $a @b #c",
    "größe = \"naïve — 中文字 ありがとう 🙂\" ; x  =   1_000_000 ",
    "   \n  \n\n    trailing   ", "0 00 007 1e-5 0xFF 20240115", "<div class='a'>&amp;</div>!?...",
)  # fmt: skip
FIM_TEXTS = {
    "prefix": ("<|fim_prefix|>", "<fim_prefix>", "<｜fim▁begin｜>"),
    "suffix": ("<|fim_suffix|>", "<fim_suffix>", "<｜fim▁hole｜>"),
    "middle": ("<|fim_middle|>", "<fim_middle>", "<｜fim▁end｜>"),
}
Encode = Callable[[str], list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenizer:
    """A vocabulary.

    Attributes:
        kinds: gguf.TokenType of each token.
        special: Ids by role: bos, eos, pad, unk.
    """

    tokens: tuple[str, ...]
    kinds: tuple[int, ...]
    merges: tuple[str, ...]
    special: dict[str, int]
    add_bos: bool
    chat_template: str | None

    def write(self, writer: gguf.GGUFWriter, pre: str) -> None:
        """Add it to a GGUF file that cuts text as ``pre`` does."""
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(list(self.tokens))
        writer.add_token_types(list(self.kinds))
        writer.add_token_merges(list(self.merges))
        writer.add_add_bos_token(self.add_bos)
        for role, token in self.special.items():
            getattr(writer, f"add_{role}_token_id")(token)
        for place, texts in FIM_TEXTS.items():
            if known := [self.tokens.index(text) for text in texts if text in self.tokens]:
                writer.add_uint32(f"tokenizer.ggml.{place}_token_id", known[0])
                writer.add_uint32(f"tokenizer.ggml.fim_{place[:3]}_token_id", known[0])
        if self.chat_template:
            writer.add_chat_template(self.chat_template)


def read_tokenizer(folder: Path, vocabulary: int) -> Tokenizer:
    """The tokenizer of a folder, filled up to ``vocabulary`` tokens.

    Raises:
        ModelError: There is none, or it is of another kind.
    """
    model, config = _load(folder / FILE), _load(folder / CONFIG, optional=True)
    try:
        return _tokenizer(model, config, vocabulary, _template(folder, config))
    except (OSError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ModelError(
            f"the tokenizer of {str(folder)!r} is damaged or not supported ({error!r}); byte-level "
            "BPE is: take a GGUF file of this model"
        ) from error


def reference(folder: Path) -> Encode:
    """The folder's own tokenizer, to compare with.

    Raises:
        MissingExtraError: The package ``tokenizers`` is not installed.
        ModelError: It cannot be read.
    """
    try:
        import tokenizers
    except ImportError as error:
        raise MissingExtraError("a Hugging Face folder", "train") from error
    try:
        original = tokenizers.Tokenizer.from_str(read_text(folder / FILE))
    except Exception as error:
        # The package raises nothing more special.
        raise ModelError(
            f"{str(folder / FILE)!r} is damaged or not supported ({error}); fetch it again, or "
            "take a GGUF file of this model"
        ) from error
    return lambda text: list(original.encode(text, add_special_tokens=False).ids)


def disagreement(original: Encode, other: Encode) -> str | None:
    """The first probe that the two turn into different tokens."""
    return next((text for text in PROBES if original(text) != other(text)), None)


def _tokenizer(
    model: dict[str, Any], config: dict[str, Any], vocabulary: int, template: str | None
) -> Tokenizer:
    bpe = model["model"]
    if bpe["type"] != "BPE" or bpe.get("byte_fallback"):
        raise ValueError(f"its kind is {bpe['type']!r}")
    tokens, kinds = [f"[PAD{n}]" for n in range(vocabulary)], [gguf.TokenType.UNUSED] * vocabulary
    given = [(text, token, gguf.TokenType.NORMAL) for text, token in bpe["vocab"].items()]
    for added in model.get("added_tokens", ()):
        kind = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
        given.append((added["content"], added["id"], kind))
    for text, token, kind in given:
        if not isinstance(text, str) or token < 0:
            raise ValueError(f"it has the token {text!r} with the number {token!r}")
        tokens[token], kinds[token] = text, kind
    if len(set(tokens)) != vocabulary:
        raise ValueError("a token stands there twice")
    merges = [one if isinstance(one, str) else " ".join(one) for one in bpe["merges"]]
    special = {}
    for role in ("bos", "eos", "pad", "unk"):
        text = config.get(f"{role}_token")
        text = text.get("content") if isinstance(text, dict) else text
        if text in tokens:
            special[role] = tokens.index(text)
    return Tokenizer(
        tokens=tuple(tokens),
        kinds=tuple(int(kind) for kind in kinds),
        merges=tuple(merges),
        special=special,
        add_bos=bool(config.get("add_bos_token", False)) and "bos" in special,
        chat_template=template,
    )


def _template(folder: Path, config: dict[str, Any]) -> str | None:
    if (folder / TEMPLATE).exists():
        return read_text(folder / TEMPLATE)
    found = config.get("chat_template")
    return found if isinstance(found, str) else None


def _load(path: Path, *, optional: bool = False) -> dict[str, Any]:
    try:
        return read_table(path)
    except FileNotFoundError as error:
        if optional:
            return {}
        raise ModelError(f"there is no {str(path)!r}; take a GGUF file of this model") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{str(path)!r} cannot be read ({error}); fetch it again") from error
