"""Questions about a repository with answers that stand in it, so that chat does not get worse.

Four kinds: a function's comment -> its code, its code -> its comment, the message of a small
commit -> its diff, "where is X defined?" -> its file. All texts are of the training part, or of the
history of its files, and are laid out as the chat serves them.
"""

import functools
import random
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flex_assist.chat.attachments import Attachment
from flex_assist.chat.window import Exchange, fenced
from flex_assist.language import BY_NAME, Language
from flex_assist.prompt.symbols import definition_nodes, definitions
from flex_assist.repository.documents import Document
from flex_assist.repository.duplicates import own_lines
from flex_assist.repository.history import Change, Commit, small_commits
from flex_assist.repository.snapshot import Snapshot
from flex_trainer.corpus import Sample
from flex_trainer.dialogues import Dialogues

if TYPE_CHECKING:
    from tree_sitter import Node

# Of a function with a comment one question is asked in each pass: for its code, or its comment.
BODY_SHARE = 0.55
MIN_NAME_CHARACTERS = 4
# Few of a document: the share is soon used up, and is to come from many.
MOST_OF_A_DOCUMENT = 4
COMMENT_CHARACTERS = 12, 700
CODE_CHARACTERS = 30, 1400
LEAST_LINES = 3
# Between a definition and its comment some grammars put these around the definition.
_WRAPPERS = frozenset({"decorated_definition", "export_statement", "template_declaration"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function with a comment that says what it does.

    Attributes:
        signature: All before its body.
        comment: As it stands in the text, marks included.
        code: Signature and body without the comment.
        first_line: Of the signature, from 1.
    """

    name: str
    signature: str
    comment: str
    code: str
    first_line: int


def commits(root: Path, snapshot: Snapshot, share: float) -> tuple[Commit, ...]:
    """The commits to ask questions about; none where there are to be no questions.

    Only changes of the training part are shown, and none that shows a line of what is held out.

    Args:
        share: Of questions.
    """
    if share <= 0:
        return ()
    held_out = [document.text for document in (*snapshot.tune, *snapshot.test)]
    kept_apart = own_lines(held_out, (document.text for document in snapshot.train))
    return small_commits(root, {document.path for document in snapshot.train}, kept_apart)


class Instructions:
    """The questions of one adapter.

    Args:
        documents: Its training part.
        commits: Of the repository; only changes of its documents are shown.
        most_tokens: Longer samples are left out.
        seed: Of what is drawn.
    """

    def __init__(
        self,
        documents: Sequence[Document],
        commits: Sequence[Commit],
        dialogues: Dialogues,
        *,
        most_tokens: int,
        seed: int,
    ) -> None:
        self._documents = sorted(documents, key=lambda document: document.path)
        languages = {document.path: document.language for document in self._documents}
        found = (change_of(commit, languages) for commit in commits)
        self._changes = [change for change in found if change is not None]
        self._dialogues, self._most_tokens, self._seed = dialogues, most_tokens, seed

    def samples(self, epoch: int) -> Iterator[Sample]:
        """One pass, in random order, each made when it is asked for."""
        if not self._dialogues.known:
            return
        for exchange in self.exchanges(epoch):
            sample = self._dialogues.sample(exchange, self._most_tokens)
            if sample is not None:
                yield sample

    def exchanges(self, epoch: int) -> Iterator[Exchange]:
        """Questions and answers, too long ones included; the same for the same seed."""
        rng = random.Random(f"{self._seed}:{epoch}:instructions")
        documents, changes = list(self._documents), list(self._changes)
        rng.shuffle(documents)
        rng.shuffle(changes)
        for document in documents:
            found = list(self._about(document, rng))
            rng.shuffle(found)
            yield from found[:MOST_OF_A_DOCUMENT]
            if changes:
                yield changes.pop()
        yield from changes

    def _about(self, document: Document, rng: random.Random) -> Iterator[Exchange]:
        for function in functions(document.text, BY_NAME[document.language]):
            make = body_of if rng.random() < BODY_SHARE else comment_of
            yield make(function, document)
        alone = [name for name in self._names[document.path] if self._definers[name] == 1]
        if alone:
            yield place_of(rng.choice(alone), document)

    @functools.cached_property
    def _names(self) -> dict[str, list[str]]:
        """What each document defines."""
        return {
            document.path: sorted(
                {
                    found.name
                    for found in definitions(document.text, BY_NAME[document.language])
                    if len(found.name) >= MIN_NAME_CHARACTERS
                }
            )
            for document in self._documents
        }

    @functools.cached_property
    def _definers(self) -> Counter[str]:
        """How many documents define each name."""
        return Counter(name for names in self._names.values() for name in names)


def body_of(function: Function, document: Document) -> Exchange:
    """From what a function is said to do to its code."""
    asked = fenced(f"{function.comment}\n{function.signature}", document.language)
    return Exchange(
        question=f"Write the function `{function.name}` of `{document.path}`:\n\n{asked}",
        answer=fenced(function.code, document.language),
    )


def comment_of(function: Function, document: Document) -> Exchange:
    """From a function's code to what it is said to do."""
    shown = _shown(document.path, document.language, function.first_line, function.code)
    return Exchange(
        question=f"Write the comment that says what `{function.name}` does.",
        attachments=(shown,),
        answer=fenced(function.comment, document.language),
    )


def place_of(name: str, document: Document) -> Exchange:
    """From a name to the file that defines it."""
    return Exchange(
        question=f"Where is `{name}` defined?",
        answer=f"`{name}` is defined in `{document.path}`.",
    )


def change_of(commit: Commit, languages: Mapping[str, str]) -> Exchange | None:
    """From a commit's message to its diff, the places as they were before it attached.

    Args:
        languages: Those of the files that may be shown.
    """
    changes = [change for change in commit.changes if change.path in languages]
    if not changes:
        return None
    lines = [line for change in changes for line in _diff(change)]
    return Exchange(
        question=f"{commit.message}\n\nWrite this change as a diff.",
        attachments=tuple(
            _shown(change.path, languages[change.path], change.first_line, change.before)
            for change in changes
            if change.before.strip()
        ),
        answer=fenced("\n".join(lines), "diff"),
    )


def _diff(change: Change) -> list[str]:
    return [f"--- {change.path}:{change.first_line}", *change.lines]


def _shown(path: str, language: str, first_line: int, text: str) -> Attachment:
    """Some lines of a file as the chat attaches them."""
    label = f"{path}:{first_line}-{first_line + text.count(chr(10))}"
    return Attachment(path=path, label=label, text=text, language=BY_NAME[language])


def functions(text: str, language: Language) -> list[Function]:
    """The functions of a text that have a comment and are neither trivial nor long."""
    data = text.encode("utf-8", "surrogatepass")
    nodes = definition_nodes(data, language)
    nodes.sort(key=lambda pair: pair[1].start_byte)
    found = (_function(name, node, data) for name, node in nodes if _is_function(node))
    return [
        one
        for one in found
        if one is not None
        and COMMENT_CHARACTERS[0] <= len(one.comment) <= COMMENT_CHARACTERS[1]
        and CODE_CHARACTERS[0] <= len(one.code) <= CODE_CHARACTERS[1]
        and one.code.count("\n") >= LEAST_LINES - 1
    ]


def _is_function(node: "Node") -> bool:
    return not node.has_error and any(part in node.type for part in ("function", "method"))


def _function(name: "Node", node: "Node", data: bytes) -> Function | None:
    body = node.child_by_field_name("body") or _last_body(node)
    if body is None:
        return None
    comment, inside = _comment(node, body)
    if comment is None:
        return None
    start = data.rfind(b"\n", 0, node.start_byte) + 1
    lines = _text(data, start, node.end_byte)
    said = _text(data, *comment)
    if inside:
        # The docstring's own lines go, with the white space in front of the next statement.
        following = _text(data, comment[1], node.end_byte).lstrip()
        indent = data[data.rfind(b"\n", 0, comment[0]) + 1 : comment[0]].decode()
        if not following:
            return None
        lines = _text(data, start, comment[0]).rstrip() + f"\n{indent}{following}"
    return Function(
        name=_text(data, name.start_byte, name.end_byte),
        signature=textwrap.dedent(_text(data, start, body.start_byte)).rstrip(),
        comment=textwrap.dedent(" " * _column(data, comment[0]) + said).rstrip(),
        code=textwrap.dedent(lines),
        first_line=node.start_point.row + 1,
    )


def _last_body(node: "Node") -> "Node | None":
    """Kotlin's grammar has no name for the field."""
    last = node.named_children[-1] if node.named_children else None
    return last if last is not None and ("body" in last.type or "block" in last.type) else None


def _comment(node: "Node", body: "Node") -> tuple[tuple[int, int] | None, bool]:
    """Where the comment of a function is, and whether it is inside of it, as a docstring is."""
    first = body.named_children[0] if body.named_children else None
    if first is not None and first.type == "expression_statement":
        text = first.named_children[0] if first.named_children else None
        if text is not None and text.type == "string" and body.type == "block":
            return (text.start_byte, text.end_byte), True
    while node.parent is not None and node.parent.type in _WRAPPERS:
        node = node.parent
    top, at = node, node.prev_sibling
    while at is not None and "comment" in at.type and top.start_point.row - _last_row(at) == 1:
        top, at = at, at.prev_sibling
    if top == node:
        return None, False
    last = node.prev_sibling
    assert last is not None
    return (top.start_byte, last.end_byte), False


def _last_row(node: "Node") -> int:
    """Some grammars count the line break to a comment."""
    return node.end_point.row - (node.end_point.column == 0)


def _column(data: bytes, at: int) -> int:
    return at - data.rfind(b"\n", 0, at) - 1


def _text(data: bytes, start: int, end: int) -> str:
    return data[start:end].decode("utf-8", "replace")
