"""A Jinja sandbox for chat templates that come with a model file: a render is bounded in time and in memory.

Jinja's own sandbox keeps a template away from Python's internals. It does not keep a template from running for hours, or from
making a text of many gigabytes. Here, everything that can repeat or grow is counted: turns of loops, calls, and the sizes of texts
and lists. A render that goes beyond a limit ends with a `jinja2.TemplateError`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.runtime
import jinja2.sandbox
import jinja2.visitor

__all__ = ["TEMPLATE_ERRORS", "TemplateSandbox"]

TEMPLATE_ERRORS = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    SyntaxError,  # Python's compiler refuses blocks that are nested too deeply
    TypeError,
    ValueError,
)
"""What a bad template can raise, when it is compiled and when it is rendered."""

_MAX_SECONDS = 2.0  # of this thread's CPU time; chat templates take about a millisecond
_MAX_MADE = 16 * 2**20  # characters that a render may make in all, in addition to a multiple of its input
_STEP = 16  # characters whose cost is that of a turn of a loop, a call, or an item that is looked at
_MAX_TEXT = 256 * 1024  # characters of a single text, in addition to a multiple of the input
_MAX_NUMBER = 10_000  # as an argument: a width, an indent or a count
_MAX_BITS = 4096  # of a whole number
# slow or random
_REMOVED_FILTERS = (
    "filesizeformat",
    "pprint",
    "random",
    "striptags",
    "urlize",
    "wordwrap",
    "xmlattr",
)
_REMOVED_METHODS = frozenset({"encode", "maketrans", "translate"})
_STRUCTURAL_FILTERS = frozenset(  # these do not turn the items of a container into text
    "attr batch count d default dictsort first groupby items last length list map max min reject rejectattr reverse"
    " select selectattr slice sort unique".split()
)
_WIDTH = re.compile(r"\d{5}")  # in a format string


class TemplateSandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """Compiles and renders chat templates as `transformers` does, within limits.

    Templates can use the tag `generation`, loop controls, the filter `tojson` (which does not escape HTML) and the function
    `raise_exception`. `globals` has further functions.
    """

    intercepted_binops = frozenset({"+", "-", "*", "%", "**"})

    def __init__(self, functions: Mapping[str, Callable[..., object]]) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _GenerationTag],
            optimized=False,  # nothing is computed while a template is compiled
            finalize=_check_output,
        )
        self._work = threading.local()
        self.filters["tojson"] = _to_json
        for name in _REMOVED_FILTERS:
            del self.filters[name]
        for name, function in self.filters.items():
            self.filters[name] = self._bounded_filter(name, function)
        del self.globals["lipsum"]
        self.globals |= {"raise_exception": _raise_exception, **functions}

    @contextlib.contextmanager
    def limits(self, input_chars: int) -> Iterator[None]:
        """Limit the work of this thread inside a `with` block, for a render of an input of so many characters."""
        self._work.current = _Work(input_chars)
        try:
            yield
        finally:
            del self._work.current

    def render(self, template: jinja2.Template, variables: Mapping[str, object]) -> str:
        """Return the text of a template; call it inside `limits`."""
        pieces, size = [], 0
        for piece in template.generate(variables):
            pieces.append(piece)
            size += len(piece)
            self.work.check_size(size)
        return "".join(pieces)

    @property
    def work(self) -> _Work:
        """What the render of this thread may do."""
        work: _Work = self._work.current
        return work

    # What compiled templates call

    def count_turns(self, items: Iterable[Any]) -> Iterator[Any]:
        """Yield the items of a loop, and count them."""
        work = self.work
        for item in items:
            work.count()
            yield item

    def join_texts(self, *values: object) -> str:
        """Return the operator `~` of values."""
        self.work.check_text(sum(map(self.work.measure, values)))
        return self.concat(map(str, values))

    def check_literal(self, literal: Any) -> Any:
        """Return a list, tuple or dictionary of the template; items that contain one another may not grow without limit."""
        self.work.count(self.work.measure(literal, is_text=False))
        return literal

    def concat(self, texts: Iterable[str]) -> str:
        """Return the texts of a block, a macro or a variable as one."""
        texts = [*texts]
        self.work.check_text(sum(map(len, texts)))
        return "".join(texts)

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        """Compute a binary operator within the limits."""
        self.work.check_operator(operator, left, right)
        result = super().call_binop(context, operator, left, right)
        self.work.check_made(result)
        return result

    def call(self, context: jinja2.runtime.Context, function: Any, /, *args: Any, **keywords: Any) -> Any:
        """Call a function, a macro or a method within the limits."""
        work = self.work
        owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
        if isinstance(function, jinja2.runtime.LoopContext):  # a recursive loop
            args = (self.count_turns(args[0]), *args[1:]) if args else args
        elif function is not self.globals["range"]:  # which has a limit of its own
            work.check_numbers(args, keywords.values())
        if isinstance(owner, str):
            args = self._checked_method(owner, name, args)
        result = super().call(context, function, *args, **keywords)
        work.check_made(result)
        return result

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Return the bounded form of the methods `format` and `format_map` of a text; None for other values."""
        method = super().wrap_str_format(value)
        if method is None:
            return None
        template = value.__self__
        if _WIDTH.search(template):
            raise jinja2.TemplateRuntimeError("it formats a number with more than 9,999 characters")

        @functools.wraps(method)
        def bounded(*args: Any, **keywords: Any) -> str:
            work = self.work
            work.check_text((template.count("{") + 1) * (len(template) + work.measure((args, keywords))))
            return method(*args, **keywords)

        return bounded

    # Compiling

    def _generate(
        self, source: jinja2.nodes.Template, name: str | None, filename: str | None, defer_init: bool = False
    ) -> str:
        return super()._generate(_CountWork().visit(source), name, filename, defer_init)

    # Helpers

    def _bounded_filter(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def bounded(*args: Any, **keywords: Any) -> Any:
            work = self.work
            values = [value for value in args if not isinstance(value, _PASSED)]
            work.check_numbers(values, keywords.values())
            if name == "sum" and not all(
                isinstance(value, (int, float)) for value in [*values[2:], *keywords.values()][-1:]
            ):
                raise jinja2.TemplateRuntimeError("the filter `sum` adds numbers only")
            if name not in _STRUCTURAL_FILTERS:
                size = sum(map(work.measure, [*values, *keywords.values()]))
                work.check_text(size)
                if name == "format" and values:
                    work.check_operator("%", str(values[0]), tuple(values[1:]) or keywords)
                elif name in ("replace", "join", "indent") and values:
                    work.check_text(_largest_result(name, values, keywords, size))
            result = function(*args, **keywords)
            if isinstance(result, Iterator):
                return self.count_turns(result)
            work.check_made(result)
            return result

        return bounded

    def _checked_method(self, text: str, name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Check a method of `text` that can make a much longer text, and return its arguments."""
        work = self.work
        if name in _REMOVED_METHODS:
            raise jinja2.TemplateRuntimeError(f"it calls the method `{name}` of a text")
        if name == "replace" and len(args) > 1 and isinstance(args[0], str) and isinstance(args[1], str):
            work.check_text(len(text) + text.count(args[0]) * len(args[1]))
        elif name == "expandtabs":
            work.check_text(len(text) + text.count("\t") * (args[0] if args and isinstance(args[0], int) else 8))
        elif name == "join" and args:
            items = [*self.count_turns(args[0])]
            work.check_text(len(text) * len(items) + work.measure(items))
            return (items,)
        return args


class _Work:
    """What a render has done, and its limits.

    Args:
        input_chars: Characters of the messages.
    """

    def __init__(self, input_chars: int) -> None:
        self._until = time.thread_time() + _MAX_SECONDS
        self._max_text = _MAX_TEXT + 4 * input_chars
        self._left = _MAX_MADE + 64 * input_chars

    def count(self, made: int = _STEP) -> None:
        """Count a step of the work, or the characters that are made in it."""
        self._left -= made
        if self._left < 0 or time.thread_time() > self._until:
            raise jinja2.TemplateRuntimeError(f"it does too much work, or takes more than {_MAX_SECONDS:g} seconds")

    def check_text(self, size: int) -> None:
        """Count a text that is about to be made, and check its size."""
        self.check_size(size)
        self.count(size)

    def check_size(self, size: int) -> None:
        """Check the size of a text."""
        if size > self._max_text:
            raise jinja2.TemplateRuntimeError(f"it writes a text of more than {self._max_text:,} characters")

    def check_made(self, value: object) -> None:
        """Count a value that was made."""
        self.count(_STEP + (len(value) if isinstance(value, (str, list, tuple, dict)) else 0))

    def check_numbers(self, *values: Iterable[object]) -> None:
        """Check that no argument is a large number."""
        if any(isinstance(value, int) and abs(value) > _MAX_NUMBER for group in values for value in group):
            raise jinja2.TemplateRuntimeError(f"it passes a number above {_MAX_NUMBER:,} to a function or filter")

    def check_operator(self, operator: str, left: object, right: object) -> None:
        """Check that the result of an operator is not too large."""
        if operator == "%" and isinstance(left, str):
            if _WIDTH.search(left) or (isinstance(right, tuple) and "*" in left):
                raise jinja2.TemplateRuntimeError("it formats a number with more than 9,999 characters")
            self.check_text((left.count("%") + 1) * (len(left) + self.measure(right)))
        elif isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * (max(1, right) if operator == "**" else 1) + right.bit_length()
            if bits > _MAX_BITS:
                raise jinja2.TemplateRuntimeError(f"it computes a number of more than {_MAX_BITS:,} bits")
        elif operator == "*":
            sequence, times = (right, left) if isinstance(left, int) else (left, right)
            if isinstance(sequence, (str, list, tuple)) and isinstance(times, int):
                self.check_text(len(sequence) * max(0, times))
        elif operator == "+" and isinstance(left, (str, list, tuple)) and isinstance(right, (str, list, tuple)):
            self.check_text(len(left) + len(right))

    def measure(self, value: object, *, is_text: bool = True) -> int:
        """Return about the number of characters of a value as text; with `is_text` False, the number of items in all depths."""
        size, waiting = 0, [value]
        while waiting:
            value = waiting.pop()
            if isinstance(value, str):
                size += len(value) if is_text else 1
            elif isinstance(value, (Mapping, list, tuple)):
                size += 2
                waiting += [*value, *value.values()] if isinstance(value, Mapping) else value
            else:
                size += 8
            if size > self._max_text:
                break
            if waiting:
                self.count()
        return size


class _CountWork(jinja2.visitor.NodeTransformer):
    """Makes a template call the sandbox at each loop, literal container and `~`."""

    def visit_For(self, node: jinja2.nodes.For) -> jinja2.nodes.Node:  # noqa: N802 - Jinja's name
        self.generic_visit(node)
        node.iter = _call("count_turns", [node.iter])
        return node

    def visit_Concat(self, node: jinja2.nodes.Concat) -> jinja2.nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _call("join_texts", node.nodes)

    def visit_List(self, node: jinja2.nodes.Literal) -> jinja2.nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _call("check_literal", [node])

    visit_Dict = visit_List  # noqa: N815

    def visit_Tuple(self, node: jinja2.nodes.Tuple) -> jinja2.nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _call("check_literal", [node]) if node.ctx == "load" else node


class _GenerationTag(jinja2.ext.Extension):
    """The tag `generation`, which marks what an assistant wrote: it means nothing when a model answers, and shows its body."""

    tags = frozenset({"generation"})  # type: ignore[assignment]

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        """Return the body of the tag, in a scope of its own."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return [jinja2.nodes.Scope(body, lineno=line)]


_PASSED = (jinja2.runtime.Context, jinja2.Environment, jinja2.nodes.EvalContext)  # Jinja passes them to some filters


def _call(name: str, args: Sequence[jinja2.nodes.Node]) -> jinja2.nodes.Call:
    return jinja2.nodes.Call(jinja2.nodes.EnvironmentAttribute(name), [*args], [], None, None)


def _largest_result(name: str, values: list[Any], keywords: Mapping[str, Any], size: int) -> int:
    """Return the most characters of the result of a filter whose arguments have `size` characters together."""
    text = values[0]
    if name == "replace":
        old, new = (str(value) for value in [*values[1:], *keywords.values()][:2])
        return size + str(text).count(old) * len(new)
    if name == "indent":
        width = next((value for value in [*values[1:], *keywords.values()] if not isinstance(value, bool)), 4)
        return size + (str(text).count("\n") + 1) * (width if isinstance(width, int) else len(width))
    separator = str(next(iter([*values[1:], *keywords.values()]), ""))
    return size + len(separator) * (len(text) if isinstance(text, (str, list, tuple, dict)) else size)


@jinja2.pass_context
def _check_output(context: jinja2.runtime.Context, value: object) -> object:
    """Check a value before it is written as text."""
    if not isinstance(value, str):
        environment = context.environment
        assert isinstance(environment, TemplateSandbox)
        environment.work.check_text(environment.work.measure(value))
    return value


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> str:
    raise jinja2.TemplateError(message)
