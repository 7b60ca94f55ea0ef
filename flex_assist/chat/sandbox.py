"""Where a model file's chat template runs: Jinja's sandbox, bounded in time and memory.

A template comes with a downloaded model and is not trusted. Jinja's immutable sandbox keeps it
from Python's internals; what it lacks are bounds: ``{% for … %}`` within ``{% for … %}`` never
ends, and ``x ~ x`` in a loop doubles until memory is gone. Message contents are not in the room
(see ``template``), so a layout is small and the bounds can be tight.
"""

import functools
import json
import sys
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from types import FrameType
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from flex_assist.errors import ModelError

MAX_TEMPLATE_CHARACTERS = 65_536
MAX_TEXT_CHARACTERS = 262_144
MAX_NUMBER = 10**12
MAX_STEPS = 300_000
MAX_SECONDS = 2.0

FILTERS = (
    "abs",
    "capitalize",
    "count",
    "d",
    "default",
    "dictsort",
    "first",
    "float",
    "int",
    "items",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "reverse",
    "safe",
    "select",
    "selectattr",
    "sort",
    "string",
    "title",
    "trim",
    "unique",
    "upper",
)
TEXT_METHODS = frozenset(
    (
        "capitalize",
        "count",
        "endswith",
        "find",
        "index",
        "isalpha",
        "isdigit",
        "isspace",
        "lower",
        "lstrip",
        "removeprefix",
        "removesuffix",
        "replace",
        "rfind",
        "rsplit",
        "rstrip",
        "split",
        "splitlines",
        "startswith",
        "strip",
        "title",
        "upper",
    )
)


class _GenerationBlock(Extension):
    """``{% generation %}…{% endgeneration %}``, a mark for training: its body is kept as it is."""

    tags = {"generation"}  # noqa: RUF012 - as the base class declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _ConcatenationAsSum(NodeTransformer):
    """``a ~ b`` becomes ``a|string + b|string``: only operators of that kind can be bounded."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:
        parts: list[nodes.Expr] = [
            nodes.Filter(self.visit(part), "string", [], [], None, None, lineno=node.lineno)
            for part in node.nodes
        ]
        return functools.reduce(lambda left, right: nodes.Add(left, right), parts)


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's immutable sandbox with bounded operators, methods and filters."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationBlock]
        )
        self.filters = {name: self.filters[name] for name in FILTERS}
        self.filters.update(join=_join, replace=_replace, tojson=_tojson)
        kept = ("range", "dict", "namespace")
        self.globals = {name: self.globals[name] for name in kept}
        self.globals.update(raise_exception=_raise, strftime_now=_strftime_now)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or (operator == "%" and isinstance(left, str)):
            raise SecurityError(f"the operator {operator} is not allowed")
        if operator == "*":
            _check(_length(left) * _count(right) + _length(right) * _count(left))
        if operator == "+":
            _check(_length(left) + _length(right))
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, int | float) and abs(result) > MAX_NUMBER:
            raise SecurityError("a number grows too large")
        return result

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str) and attr not in TEXT_METHODS:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """No ``"…".format``: a width in it makes a text of any length."""

    def call(self, context: Context, obj: Any, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(obj, "__self__", None)
        if isinstance(owner, str) and getattr(obj, "__name__", "") == "replace":
            return _replace(owner, *args)
        return super().call(context, obj, *args, **kwargs)


def render(source: str, **values: Any) -> str:
    """Run a chat template.

    Raises:
        ModelError: It is too large, malformed, refuses the messages or exceeds its bounds.
    """
    if len(source) > MAX_TEMPLATE_CHARACTERS:
        raise ModelError(
            f"the model's chat template has {len(source)} characters, more than "
            f"{MAX_TEMPLATE_CHARACTERS}; use another GGUF file of this model"
        )
    try:
        template = _compiled(source)
        text = _bounded(lambda: template.render(**values))
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ModelError(f"the model's chat template failed: {_short(error)}") from error
    except (AttributeError, RecursionError, SyntaxError, MemoryError) as error:
        raise ModelError(f"the model's chat template failed: {_short(error)}") from error
    _require(len(text))
    return text


@functools.lru_cache(maxsize=8)
def _compiled(source: str) -> Template:
    environment = _environment()
    tree = _ConcatenationAsSum().visit(environment.parse(source))
    return environment.from_string(tree)


@functools.cache
def _environment() -> _Environment:
    return _Environment()


def _bounded(render_template: Callable[[], str]) -> str:
    """Run with a trace function that ends what does not end by itself."""
    steps, deadline = 0, time.monotonic() + MAX_SECONDS

    def count(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        nonlocal steps
        steps += 1
        if steps > MAX_STEPS or time.monotonic() > deadline:
            raise SecurityError("it does not come to an end")
        return count

    previous = sys.gettrace()
    sys.settrace(count)
    try:
        return render_template()
    finally:
        sys.settrace(previous)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple) else 0


def _count(value: Any) -> int:
    return max(value, 0) if isinstance(value, int) else 0


def _check(characters: int) -> None:
    if characters > MAX_TEXT_CHARACTERS:
        raise SecurityError("a text grows too large")


def _require(characters: int) -> None:
    if characters > MAX_TEXT_CHARACTERS:
        raise ModelError("the model's chat template failed: its text is too large")


def _short(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


def _join(values: Iterable[Any], separator: str = "") -> str:
    texts = [str(value) for value in values]
    _check(sum(map(len, texts)) + len(separator) * len(texts))
    return separator.join(texts)


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    _check(len(text) + text.count(old) * len(new))
    return text.replace(old, new, count)


def _tojson(value: Any, indent: int | None = None, **_: Any) -> str:
    _check(indent or 0)
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(layout: str) -> str:
    _check(len(layout) * 64)
    return datetime.now().strftime(layout)
