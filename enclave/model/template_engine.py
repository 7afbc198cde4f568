"""A model's chat template, rendered in Jinja's immutable sandbox under limits of size, steps and time (DESIGN 4).

The template is the publisher's program and the messages are the client's data, so neither may run long or grow large:
every loop round, macro, call, filter and operator takes a step, and everything made is charged to one budget, before it
is made where it can multiply. One operation is bounded, so the clock is overrun by one operation at most. Only listed
filters and methods exist. No exception text leaves: it could quote a message.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jinja2
import jinja2.defaults
import jinja2.ext
import jinja2.meta
import jinja2.runtime
import jinja2.sandbox
import jinja2.utils
from jinja2 import nodes

from anchorhold.enclave.model.budget import Budget, TemplateStopped
from anchorhold.enclave.model.engine import ChatMessage, EngineRefused, ModelRefused

MAX_SOURCE = 64 * 1024  # bytes; the longest common templates have 12 KiB

_FILTERS = frozenset({
    "trim", "length", "count", "string", "int", "float", "list", "first", "last", "upper", "lower",
    "capitalize", "title", "default", "d", "safe", "items", "selectattr", "rejectattr", "select", "reject",
    "map", "sort", "unique", "dictsort", "reverse", "abs",
})  # fmt: skip
_METHODS = frozenset({
    "strip", "lstrip", "rstrip", "startswith", "endswith", "split", "rsplit", "splitlines", "upper", "lower",
    "title", "capitalize", "find", "rfind", "index", "count", "isdigit", "isalpha", "isalnum", "isspace",
    "removeprefix", "removesuffix", "replace", "join", "items", "keys", "values", "get",
})  # fmt: skip
_STEP, _CONCAT, _WEIGH = "anchorhold_step", "anchorhold_concat", "anchorhold_weigh"


class _Refusal(Exception):
    """The template called raise_exception: it does not take these messages."""


class _Bounded(jinja2.sandbox.ImmutableSandboxedEnvironment):  # type: ignore[misc]  # jinja2 is not followed by mypy
    """The sandbox, with everything that can grow taken through one budget."""

    intercepted_binops: ClassVar[frozenset[str]] = frozenset(["+", "-", "*", "/", "//", "**", "%"])

    def __init__(self, budget: Budget) -> None:
        # optimized=False: constant folding would run operators at compile time, before any budget.
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            extensions=[jinja2.ext.loopcontrols],
            cache_size=0,
            finalize=budget.shown,
        )
        self._budget = budget
        self.filters = {name: self._counted(jinja2.defaults.DEFAULT_FILTERS[name]) for name in _FILTERS}
        self.filters |= {"tojson": budget.to_json, "replace": budget.replace, "join": budget.join}
        self.filters |= {_CONCAT: budget.concat, _STEP: lambda _: budget.step(), _WEIGH: budget.weighed}
        self.globals = {"range": jinja2.sandbox.safe_range, "namespace": jinja2.utils.Namespace}
        self.globals |= {"dict": lambda **pairs: budget.weighed(pairs), "raise_exception": _raise_exception}
        self.concat = budget.concat

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return _instrument(super()._parse(source, name, filename))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str | dict | list | tuple):
            return attr in _METHODS
        plain = isinstance(obj, jinja2.runtime.LoopContext | jinja2.utils.Namespace)
        return plain and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """`format` makes any length from a short text; without the wrapper it falls under the list of methods."""
        return

    def getitem(self, obj: Any, argument: Any) -> Any:
        found = super().getitem(obj, argument)
        return self._budget.made(found) if isinstance(argument, slice) else found

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - jinja's own: a template may pass `self`
        __self._budget.step()
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str) and __obj.__name__ == "replace":
            return __self._budget.replace(owner, *args)
        if isinstance(owner, str) and __obj.__name__ == "join":
            return __self._budget.join(args[0], owner)
        return __self._budget.made(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        self._budget.predict(operator, left, right)
        return self._budget.weighed(super().call_binop(context, operator, left, right))

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self._budget.step()
            for value in args:
                self._budget.shown(value)
            return self._budget.made(function(*args, **kwargs))

        if hasattr(function, "jinja_pass_arg"):
            counted.jinja_pass_arg = function.jinja_pass_arg  # type: ignore[attr-defined]  # jinja marks functions so
        return counted


class ChatTemplate:
    """One compiled template. `render` is not to be called from two threads at once: there is one budget."""

    def __init__(
        self, source: str, special_tokens: Mapping[str, str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises ModelRefused for a template that does not compile within the limits."""
        if len(source.encode()) > MAX_SOURCE:
            raise ModelRefused(f"chat template: expected at most {MAX_SOURCE} bytes, got {len(source.encode())}")
        self._budget = Budget(clock)
        self._special = dict(special_tokens)
        self._budget.start()
        try:
            environment = _Bounded(self._budget)
            self._template = environment.from_string(source)
            self._takes_tools = "tools" in jinja2.meta.find_undeclared_variables(environment.parse(source))
        except (jinja2.TemplateError, RecursionError, SyntaxError, ValueError) as error:
            raise ModelRefused(f"the chat template does not compile: {type(error).__name__}") from None

    def render(self, messages: Sequence[ChatMessage], tools: str | None = None) -> str:
        """The prompt, opened for the assistant's turn. Raises EngineRefused; what it cannot show is never left out."""
        if not self._takes_tools and (tools is not None or any(one.calls or one.role == "tool" for one in messages)):
            raise EngineRefused("unsupported", "the model's chat template takes no tools")
        self._budget.start()
        given = {} if tools is None else {"tools": json.loads(tools)}
        try:
            return self._budget.concat(
                self._template.generate(
                    messages=[_turn(message) for message in messages],
                    add_generation_prompt=True,
                    **given,
                    **self._special,
                )
            )
        except TemplateStopped as stopped:
            raise EngineRefused("template-limit", str(stopped)) from None
        except _Refusal:
            raise EngineRefused("template-refused", "the model's chat template does not take these messages") from None
        except Exception as error:  # noqa: BLE001 - a template is a program: whatever it raises is its own fault
            raise EngineRefused("template-failed", f"the chat template raised {type(error).__name__}") from None


def _turn(message: ChatMessage) -> dict[str, object]:
    turn: dict[str, object] = {"role": message.role, "content": message.content}
    return turn if message.calls is None else {**turn, "tool_calls": json.loads(message.calls)}


def _raise_exception(_message: object) -> str:
    raise _Refusal


def _instrument(tree: nodes.Template) -> nodes.Template:
    """A step at the head of every loop, macro and call block; literals and `~` become filters that know sizes."""
    for banned in (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends):
        if tree.find(banned) is not None:
            raise jinja2.TemplateSyntaxError("a chat template stands alone", 1)
    _replace_literals(tree)
    bodies: list[nodes.For | nodes.Macro | nodes.CallBlock] = []
    for kind in (nodes.For, nodes.Macro, nodes.CallBlock):
        bodies += tree.find_all(kind)
    for node in bodies:
        tick = nodes.ExprStmt(_filter(nodes.Const(""), _STEP, node.lineno), lineno=node.lineno)
        node.body.insert(0, tick.set_environment(tree.environment))
    return tree


def _replace_literals(node: nodes.Node) -> None:
    for field, value in node.iter_fields():
        if isinstance(value, list):
            value[:] = [_bounded(item) if isinstance(item, nodes.Node) else item for item in value]
        elif isinstance(value, nodes.Node):
            setattr(node, field, _bounded(value))


def _bounded(node: nodes.Node) -> nodes.Node:
    _replace_literals(node)
    if isinstance(node, nodes.Concat):
        parts = nodes.List(node.nodes, lineno=node.lineno, environment=node.environment)
        return _filter(parts, _CONCAT, node.lineno).set_environment(node.environment)
    if isinstance(node, nodes.List | nodes.Dict) or (isinstance(node, nodes.Tuple) and node.ctx == "load"):
        return _filter(node, _WEIGH, node.lineno).set_environment(node.environment)
    return node


def _filter(operand: nodes.Expr, name: str, lineno: int) -> nodes.Filter:
    return nodes.Filter(operand, name, [], [], None, None, lineno=lineno)
