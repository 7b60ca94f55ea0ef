"""Places in a text along its syntax tree: statements, blocks, bodies, arguments, expressions.

The names of nodes are those of the grammars of all languages of ``language.py``; of a grammar that
has none of them nothing is found. What cannot be parsed is left out, node by node.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from flex_assist.language import Language, parser

if TYPE_CHECKING:
    from tree_sitter import Node, Query

Place = tuple[int, int]

# What holds statements or members, one after the other.
CONTAINERS = (
    "block", "body_statement", "class_body", "compilation_unit", "compound_statement",
    "constructor_body", "declaration_list", "do_group", "enum_class_body", "field_declaration_list",
    "interface_body", "module", "object_type", "program", "source_file", "statement_block",
    "statement_list", "switch_body", "then", "translation_unit",
)  # fmt: skip
ARGUMENTS = (
    "argument_list", "arguments", "formal_parameters", "function_value_parameters",
    "method_parameters", "parameter_list", "parameters", "value_arguments",
)  # fmt: skip
EXPRESSIONS = (
    "array", "array_access", "array_creation_expression", "array_expression", "as_expression",
    "attribute", "await", "await_expression", "binary", "binary_expression", "binary_operator",
    "boolean_operator", "call", "call_expression", "cast_expression", "closure_expression",
    "command_substitution", "comparison_operator", "composite_literal", "conditional",
    "conditional_expression", "dictionary", "dictionary_comprehension", "element_access_expression",
    "element_reference", "field_access", "field_expression", "function_call_expression",
    "generator_expression", "hash", "index_expression", "initializer_list", "instanceof_expression",
    "invocation_expression", "jsx_element", "jsx_self_closing_element", "lambda",
    "lambda_expression", "list", "list_comprehension", "macro_invocation",
    "member_access_expression", "member_call_expression", "member_expression", "method_invocation",
    "navigation_expression", "new_expression", "not_operator", "object",
    "object_creation_expression", "reference_expression", "scoped_call_expression",
    "selector_expression", "set", "string_expansion", "struct_expression", "subscript",
    "subscript_expression", "template_string", "ternary_expression", "test_command", "tuple",
    "unary_expression",
)  # fmt: skip
# Parts of the names of nodes whose container is a body rather than a block.
_DEFINERS = (
    "accessor", "class", "closure", "constructor", "func", "impl", "interface", "lambda", "method",
    "object_declaration", "rule_set", "struct", "trait",
)  # fmt: skip
# Parts of the names of nodes that nobody leaves to a completion as one statement.
_NO_STATEMENTS = (
    "access", "class", "comment", "constructor", "declaration_list", "definition", "enum", "ERROR",
    "export", "function", "impl", "import", "interface", "method", "mod", "namespace",
    "object_declaration", "package", "php_tag", "preproc", "statement_list", "struct", "template",
    "text", "trait", "use_declaration", "using_directive",
)  # fmt: skip
# Of the containers, the roots of texts. Ruby has a node of the same name further in.
_ROOTS = frozenset({"compilation_unit", "module", "program", "source_file", "translation_unit"})
_BRACKETS = b"([{<"
_TAIL = b";,"


def places(data: bytes, language: Language, longest: int) -> dict[str, list[Place]]:
    """Start and end in bytes of what may be filled in, by kind; not sorted, some twice.

    Args:
        longest: Most bytes of a place.
    """
    found: dict[str, list[Place]] = {
        "arguments": [], "block": [], "body": [], "expression": [], "statement": []
    }  # fmt: skip
    query = _query(language)
    if query is None:
        return found

    def keep(kind: str, start: int, end: int) -> None:
        if 0 < end - start <= longest:
            found[kind].append((start, end))

    nodes = _captures(query, parser(language).parse(data).root_node)
    for node in nodes.get("arguments", ()):
        # Without the brackets; Ruby can do without them.
        bracket = data[node.start_byte] in _BRACKETS
        keep("arguments", *_stripped(data, node.start_byte + bracket, node.end_byte - bracket))
    for node in nodes.get("expression", ()):
        if not node.has_error:
            keep("expression", node.start_byte, node.end_byte)
    for node in nodes.get("container", ()):
        _take_apart(node, data, keep)
    return found


def _take_apart(container: "Node", data: bytes, keep: Callable[[str, int, int], None]) -> None:
    """The statements of a container, all of them together, and what is left from each one on."""
    children = container.named_children
    inner = container.parent is not None and container.type in _ROOTS
    if not children or inner or children[0].type in CONTAINERS:
        # Go's blocks have one child, which has the statements.
        return
    whole = children[0].start_byte, _end(children[-1], data)
    is_body = _is_body(container)
    top = container.type in _ROOTS
    if not top and not container.has_error:
        keep("body" if is_body else "block", *whole)
    for number, child in enumerate(children):
        if _is_statement(child):
            keep("statement", child.start_byte, _end(child, data))
            rest = children[number:]
            if 0 < number < len(children) - 1 and not top and all(map(_is_statement, rest)):
                keep("block", child.start_byte, whole[1])


def _is_body(container: "Node") -> bool:
    parent = container.parent
    if parent is not None and parent.type in CONTAINERS:
        parent = parent.parent
    return parent is not None and any(part in parent.type for part in _DEFINERS)


def _is_statement(node: "Node") -> bool:
    return not node.has_error and not any(part in node.type for part in _NO_STATEMENTS)


def _end(node: "Node", data: bytes) -> int:
    """The node's end, with what closes it: in some grammars it stands beside the node."""
    end = node.end_byte
    while end < len(data) and data[end] in _TAIL:
        end += 1
    return end


def _stripped(data: bytes, start: int, end: int) -> Place:
    part = data[start:end]
    return start + len(part) - len(part.lstrip()), start + len(part.rstrip())


@functools.cache
def _query(language: Language) -> "Query | None":
    from tree_sitter import Query

    grammar = parser(language).language
    assert grammar is not None
    kinds = {"container": CONTAINERS, "arguments": ARGUMENTS, "expression": EXPRESSIONS}
    patterns = [
        f"[{' '.join(f'({name})' for name in known)}] @{kind}"
        for kind, names in kinds.items()
        if (known := [name for name in names if grammar.id_for_node_kind(name, True) is not None])
    ]
    return Query(grammar, "\n".join(patterns)) if patterns else None


def _captures(query: "Query", root: "Node") -> "dict[str, list[Node]]":
    from tree_sitter import QueryCursor

    return QueryCursor(query).captures(root)
