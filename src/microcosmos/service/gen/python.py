"""The Python client of a service, as source text.

One module: a struct for each type, and a class with a method for each endpoint. There are two
flavours. By rpc the class takes what `service.client(NAME)` gives, and is for programs on the
platform; by HTTP it takes a URL, and is for those that have nothing of it installed.
"""

from __future__ import annotations

import ast
import keyword
import re
import sys
from collections.abc import Collection
from importlib import resources

from . import layout, words
from .layout import Code, Group, Part
from .model import ANY, Method, Model, Record
from .python_records import BUILTINS, Records, listed
from .python_types import NAMES, Imports, Types

RESERVED = NAMES | {
    "Answer", "Answers", "AsyncIterator", "BadGateway", "BadRequest", "ClassVar",
    "ClientClosed", "ClientConnection", "Conflict", "ConnectionLost", "DeadlineExceeded",
    "Dialogue", "Error", "Exception", "Forbidden", "Generic", "InternalServerError", "Item",
    "LookupError", "MethodNotAllowed", "NotFound", "OSError", "Remote", "RequestTimeout",
    "Self", "TimeoutError", "TooLarge", "TooManyRequests", "TypeVar", "Unauthorized",
    "Unavailable", "UnicodeDecodeError", "RecursionError", "Unimplemented",
}  # fmt: skip
"""Names that no type of a generated module may have."""

_METHODS = frozenset({"aclose"})
_MARK = "# The part.\n"

_RPC = [
    "Args:",
    "    client: `service.client(NAME)`, `connection.client(NAME)` or `Client(NAME)`.",
    "    timeout: seconds that a call may take; the platform's limit unless said.",
    "    metadata: travels beside every call.",
]
_HTTP = [
    "A block, `async with ... as service:`, closes its connections at the end.",
    "",
    "Args:",
    "    url: where the gateway is.",
    "    token: an access token, as `micro user token` prints it.",
    "    timeout: seconds that a call may take.",
    "    metadata: sent as headers with every call.",
    "    http: carries the calls; one of its own unless given.",
]


def write(model: Model, *, again: str, http: bool = False) -> str:
    """The module of a client.

    Args:
        model: the service, read with `RESERVED`.
        again: the command that writes it again.
        http: by HTTP, without anything of this platform; else by rpc.
    """
    return _Module(model, http=http).write(again)


class _Module:
    def __init__(self, model: Model, *, http: bool) -> None:
        self._model = model
        self._http = http
        self._imports = Imports()
        self._types = Types(model, self._imports)
        self._records = Records(model, self._imports, self._types)

    def write(self, again: str) -> str:
        model = self._model
        body = self._records.declarations()
        parts = [self._part(name) for name in self._parts()]
        for _, part in parts:
            body += ["", *part.splitlines(), ""]
        body += ["", *self._client()]
        head = [
            f"# Made by `{again}`; make it again when the service changes.",
            *layout.docstring([f"A client of the service {model.name}."], 0),
            "",
            "from __future__ import annotations",
            "",
            *self._imports.lines(frozenset(sys.stdlib_module_names)),
            "",
        ]
        variables = [line for part in parts for line in part[0]]
        variables = [*dict.fromkeys(variables), ""] if variables else []
        text = "\n".join([*head, *variables, *body]).rstrip() + "\n"
        return re.sub(r"\n{4,}", "\n\n\n", text)

    def _parts(self) -> list[str]:
        methods = self._model.methods
        listens = any(method.streams or method.items is not None for method in methods)
        speaks = any(method.items is not None for method in methods)
        if not self._http:
            return ["rpc", *(["rpc_streams"] if listens else [])]
        return [
            "http",
            *(["http_answers"] if listens else []),
            *(["http_dialogue"] if speaks else []),
        ]

    def _part(self, name: str) -> tuple[list[str], str]:
        """The variables and the text of a part; its imports become the module's."""
        source = (resources.files(__package__) / "parts" / f"{name}.py").read_text("utf-8")
        head, _, text = source.partition(_MARK)
        variables = []
        for node in ast.parse(head).body:
            if isinstance(node, ast.Import):
                for module in node.names:
                    self._imports.module(module.name)
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                if node.module != "__future__":
                    self._imports.name(node.module, *(one.name for one in node.names))
            elif isinstance(node, ast.Assign):
                variables.append(ast.unparse(node).replace("'", '"'))
        return variables, text.lstrip("\n")

    def _client(self) -> list[str]:
        model = self._model
        names = method_names(model, _METHODS)
        hidden = frozenset(names.values()) & BUILTINS
        about = _HTTP if self._http else _RPC
        documented = layout.docstring([f"The service {model.name}.", "", *about], 4)
        lines = [f"class {model.client}(_Service):", *documented]
        for method in model.methods:
            lines += ["", *self._method(method, names[method.endpoint], hidden)]
        return lines

    def _method(self, method: Method, name: str, hidden: frozenset[str]) -> list[str]:
        record = self._model.parameters(method)
        parameters: list[Code] = ["self"]
        told: list[tuple[str, str]] = []
        used: list[str] = []
        if record is not None:
            names = self._records.names(record)
            used = list(names.values())
            told = self._records.told(record)
        only = method.items is not None and not method.streams
        items = words.unique("items", used, "items_")
        if only:
            parameters.append(self._items(method, items, hidden))
        request: Code = "request"
        if record is not None:
            if record.fields:
                parameters += ["*", *self._parameters(record, hidden)]
            request = Group(f"{record.name}(", tuple(f"{one}={one}" for one in used), ")")
        else:
            parameters.append(self._whole(method, hidden))
        about = words.prose(method.about, 80)
        documented = layout.docstring([*about, *listed("Args", told, after=about)], 8)
        body = self._body(
            method,
            request,
            items,
            words.unique("answer", used, "answer_"),
            hidden | (set(used) & BUILTINS),
        )
        return [*self._head(method, name, parameters, hidden), *documented, *body]

    def _head(
        self, method: Method, name: str, parameters: list[Code], hidden: frozenset[str]
    ) -> list[str]:
        answer = self._types.code(method.response, hidden)
        word = "async def"
        if method.streams:
            word = "def"
            head = "Answers" if method.items is None else "Dialogue"
            items = [] if method.items is None else [self._types.code(method.items, hidden)]
            answer = layout.subscript(head, *items, answer)
        group = Group("(", tuple(parameters), ")")
        if len(f"    {word} {name}{group} -> {answer}:") <= layout.WIDTH:
            return [f"    {word} {name}{group} -> {answer}:"]
        *lines, last = layout.exploded(f"{word} {name}", parameters, "", 4)
        return [*lines, *layout.lines(f"{last.strip()} -> ", answer, ":", 4)]

    def _parameters(self, record: Record, hidden: frozenset[str]) -> list[Code]:
        names = self._records.names(record)
        required: list[Code] = []
        optional: list[Code] = []
        for field in record.fields:
            kind, given = self._records.with_default(record, field, hidden)
            listed = optional if given else required
            listed.append(Part(f"{names[field.name]}: ", kind, f" = {given}" if given else ""))
        return [*required, *optional]

    def _whole(self, method: Method, hidden: frozenset[str]) -> Code:
        kind = self._types.code(method.request, hidden)
        if not self._model.optional(method.request):
            return Part("request: ", kind, "")
        return Part("request: ", self._types.joined(kind, "None"), " = None")

    def _items(self, method: Method, name: str, hidden: frozenset[str]) -> Code:
        self._imports.name("collections.abc", "AsyncIterable", "Iterable")
        item = self._types.code(method.items or ANY, hidden)
        kinds = [layout.subscript(head, item) for head in ("Iterable", "AsyncIterable")]
        return Part(f"{name}: ", self._types.joined(*kinds), "")

    def _body(
        self, method: Method, request: Code, items: str, answer: str, hidden: frozenset[str]
    ) -> list[str]:
        kind = self._types.code(method.response, hidden)
        first = [layout.text(method.endpoint), layout.text(method.path), request, kind]
        if not method.streams and method.items is None:
            options: list[Code] = [] if method.retry else ["retry=False"]
            if not self._http:
                del first[1]  # only HTTP has paths
            call = layout.exploded("await self._call", [*first, *options], "", 8)
            return self._given(answer, kind, call)
        if method.items is None:
            return self._opened("return ", "Answers", first)
        dialogue = str(layout.subscript("Dialogue", self._types.code(method.items, hidden), kind))
        if method.streams:
            return self._opened("return ", dialogue, first)
        call = self._opened("return await ", dialogue, first)
        return [*call[:-1], f"{call[-1]}._only({items})"]

    def _given(self, answer: str, kind: Code, call: list[str]) -> list[str]:
        head = layout.lines(f"{answer}: ", kind, "", 8)
        return [
            *head[:-1],
            f"{head[-1]} = {call[0].strip()}",
            *call[1:],
            f"        return {answer}",
        ]

    def _opened(self, prefix: str, head: str, first: list[Code]) -> list[str]:
        endpoint, path, request, kind = first
        if not self._http:
            given: list[Code] = [endpoint, request, Part("type=", kind), "**self._options"]
            inner = layout.exploded("self._client.stream", given, ",", 12)
        elif head == "Answers":
            inner = layout.exploded("_lines", ["self", endpoint, path, request], ",", 12)
            inner += layout.lines("", kind, ",", 12)
        else:
            return layout.exploded(f"{prefix}{head}", ["self", path, request, kind], "", 8)
        return [f"        {prefix}{head}(", *inner, "        )"]


def method_names(model: Model, taken: Collection[str] = ()) -> dict[str, str]:
    """The method of each endpoint, as Python calls it."""
    names: dict[str, str] = {}
    used = set(taken)
    for method in model.methods:
        name = words.snake(words.method_words(model.name, method.endpoint))
        if keyword.iskeyword(name):
            name += "_"
        names[method.endpoint] = name = words.unique(name, used, f"{name}_")
        used.add(name)
    return names
