"""A Modelfile: what Ollama must be told of a GGUF file.

Ollama lays out prompts by Go templates and knows nothing of the Jinja template in a file, so the
few layouts that are in use are here as both.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flex_assist.errors import ExportError
from flex_assist.models.fim import FimTokens

FILE_NAME: Final = "Modelfile"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatLayout:
    """One way to lay out a conversation.

    Attributes:
        mark: A text that only the Jinja templates of this layout have.
        template: For Ollama; of one turn.
        stops: Texts at which an answer ends.
    """

    mark: str
    template: str
    stops: tuple[str, ...]


LAYOUTS: Final = (
    ChatLayout(
        mark="<|im_start|>",
        template=(
            "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}"
            "<|im_start|>user\n{{ .Prompt }}<|im_end|>\n<|im_start|>assistant\n"
            "{{ .Response }}<|im_end|>\n"
        ),
        stops=("<|im_end|>",),
    ),
    ChatLayout(
        mark="<start_of_turn>",
        template=(
            "<start_of_turn>user\n{{ if .System }}{{ .System }}\n\n{{ end }}{{ .Prompt }}"
            "<end_of_turn>\n<start_of_turn>model\n{{ .Response }}<end_of_turn>\n"
        ),
        stops=("<end_of_turn>",),
    ),
    ChatLayout(
        mark="<|start_of_role|>",
        template=(
            "{{ if .System }}<|start_of_role|>system<|end_of_role|>{{ .System }}<|end_of_text|>\n"
            "{{ end }}<|start_of_role|>user<|end_of_role|>{{ .Prompt }}<|end_of_text|>\n"
            "<|start_of_role|>assistant<|end_of_role|>{{ .Response }}<|end_of_text|>\n"
        ),
        stops=("<|end_of_text|>",),
    ),
    ChatLayout(
        mark="[INST]",
        template=(
            "[INST] {{ if .System }}<<SYS>>\n{{ .System }}\n<</SYS>>\n\n{{ end }}"
            "{{ .Prompt }} [/INST] {{ .Response }}"
        ),
        stops=("[INST]", "[/INST]"),
    ),
    ChatLayout(
        mark="### Instruction:",
        template=(
            "{{ if .System }}{{ .System }}\n{{ end }}### Instruction:\n{{ .Prompt }}\n"
            "### Response:\n{{ .Response }}"
        ),
        stops=("### Instruction:",),
    ),
)


def modelfile(model: Path, name: str, fim: FimTokens | None) -> str:
    """The text of a Modelfile.

    Args:
        model: The GGUF file, for its template and the texts of the infilling tokens.
        name: How the Modelfile names it.

    Raises:
        ExportError: A text of the file cannot stand in a Modelfile.
        ModelError: The file is damaged.
    """
    from flex_assist.models.gguf_file import field, open_gguf

    reader = open_gguf(model)
    written = str(field(reader, "tokenizer.chat_template", ""))
    chat = next((one for one in LAYOUTS if one.mark in written), None)
    # A file without one that is known goes on with the text as it is.
    template, stops = (chat.template, list(chat.stops)) if chat else ("{{ .Prompt }}", [])
    if fim is not None:
        tokens = field(reader, "tokenizer.ggml.tokens", [])
        suffix, prefix, middle, end = (
            _text(tokens, token)
            for token in (fim.suffix_id, fim.prefix_id, fim.middle_id, fim.end_id)
        )
        infilling = f"{suffix}{{{{ .Suffix }}}}{prefix}{{{{ .Prompt }}}}{middle}"
        template = f"{{{{ if .Suffix }}}}{infilling}{{{{ else }}}}{template}{{{{ end }}}}"
        stops += [stop for stop in (suffix, prefix, middle, end) if stop not in stops]
    parameters = "".join(f'PARAMETER stop "{stop}"\n' for stop in stops)
    return f'FROM ./{name}\nTEMPLATE """{template}"""\n{parameters}'


def _text(tokens: list[str], token: int) -> str:
    text = tokens[token] if 0 <= token < len(tokens) else ""
    if (
        not text.strip()
        or not text.isprintable()
        or any(mark in text for mark in ('"', "{{", "}}"))
    ):
        raise ExportError(
            f"the infilling token {token} is {text!r}, which cannot stand in a Modelfile; "
            "use --format gguf"
        )
    return text
