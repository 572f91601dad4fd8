"""Write prompt packs for lmstrix-host: `app.py` creates one `Pack`.

`lmstrix_exports.py` turns it into the exports of the component. This module needs the standard
library only, so that unit tests can import `app.py`.
"""

from __future__ import annotations

import csv
import inspect
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


def clean(text: Any) -> str:
    """Returns a string that the contract can express: one without lone surrogates."""
    return str(text).encode(errors="replace").decode()


class PackError(Exception):
    """Ends the call with an error: a stable code and a message."""

    case = "Other"

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.value: Any = (clean(code), clean(message))


class InvalidParam(PackError):
    """A parameter or an option, and what is wrong with its value."""

    case = "InvalidParam"


class InvalidFile(PackError):
    """A file, and what is wrong with it. Line and column count from 1."""

    case = "InvalidFile"

    def __init__(self, file: str, message: str, line: int | None = None, column: int | None = None):
        super().__init__(file, message)
        self.value = (clean(file), line, column, clean(message))


class Rejected(PackError):
    """The answer did not pass the check of a processor, and why."""

    case = "Rejected"

    def __init__(self, reason: str):
        super().__init__("rejected", reason)
        self.value = clean(reason)


@dataclass
class Param:
    """A parameter of a prompt or an option of a processor. `required` is for those without a
    default."""

    name: str
    summary: str = ""
    default: str | None = None
    required: bool = True


@dataclass
class Message:
    """A message. The role is `system`, `user` or `assistant`."""

    role: str
    content: str
    attachments: Sequence[str] = ()


@dataclass
class Resolved:
    """The result of a prompt: either `messages` or `raw`; the rest is optional.

    The settings are `temperature`, `top_k`, `top_p`, `min_p`, `repeat_penalty`,
    `presence_penalty`, `frequency_penalty`, `seed`, `max_tokens` (`None` is no limit), `stop`,
    `json_schema`, `reasoning`, and `other`, a dict. `post` has names of processors, or
    `(name, options)`."""

    messages: Sequence[Message | str] = ()
    raw: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    post: Sequence[str | tuple[str, dict[str, str]]] = ()
    extension: str | None = None
    warnings: Sequence[str] = ()


@dataclass
class Outcome:
    """The result of `finish`: text that was held back, and warnings."""

    tail: str = ""
    warnings: Sequence[str] = ()


@dataclass
class Model:
    """The model that will answer. Unknown facts are `None` or absent."""

    id: str
    architecture: str | None = None
    context_length: int | None = None
    extra: dict[str, str] = field(default_factory=dict)


class Stop(str):
    """Why the answer ended: `end`, `length`, `context-full`, `enough`, `cancelled`, `failed` or
    `other`."""

    reason: str = ""  # of `failed` and `other`


@dataclass
class Request:
    """What a prompt function gets."""

    prompt: str = ""
    params: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    model: Model | None = None
    extra: list[tuple[str, str]] = field(default_factory=list)

    def file(self, name: str) -> str:
        """Returns the text of a file that was passed to the pack."""
        if name not in self.files:
            message = "there is no such file beside the pack, and `--file` did not name it"
            raise InvalidFile(name, message)
        return self.files[name]

    def json(self, name: str) -> Any:
        """Returns the value of a JSON file."""
        try:
            return json.loads(self.file(name).removeprefix("\ufeff"))
        except json.JSONDecodeError as error:
            raise InvalidFile(name, error.msg, error.lineno, error.colno) from None

    def csv(self, name: str) -> list[dict[str, str]]:
        """Returns the rows of a CSV file whose first line names the columns."""
        text = io.StringIO(self.file(name).removeprefix("\ufeff"), newline="")
        reader = csv.DictReader(text, strict=True)
        rows = []
        try:
            for row in reader:
                if None in row or None in row.values():
                    raise csv.Error(f"expected {len(reader.fieldnames or ())} values")
                rows.append(row)
        except csv.Error as error:
            raise InvalidFile(name, str(error), reader.line_num) from None
        return rows


@dataclass
class Context(Request):
    """What a processor gets when it is created."""

    processor: str = ""
    options: dict[str, str] = field(default_factory=dict)


class Pack:
    """The prompts and processors of a pack."""

    def __init__(self, summary: str = ""):
        self.summary = summary
        self.prompts: dict[str, Any] = {}
        self.processors: dict[str, Any] = {}
        self.infos: dict[str, list[tuple]] = {"prompt": [], "processor": []}
        packs.append(self)

    def prompt(
        self,
        name: str,
        summary: str = "",
        params: Sequence[Param] = (),
        any_params: bool = False,
    ) -> Callable:
        """Adds a function that returns a text, for one user message, or a `Resolved`.
        `any_params`: parameters that are not declared are used, too."""
        return self._adder("prompt", self.prompts, name, (summary, params, any_params))

    def processor(self, name: str, summary: str = "", options: Sequence[Param] = ()) -> Callable:
        """Adds a class with `push(self, chunk)`, which returns a text or `(text, done)`. Optional
        are `__init__(self, context)`, and `finish(self, stop)`, which returns a text, an `Outcome`
        or `None`."""
        return self._adder("processor", self.processors, name, (summary, options, False))

    def _adder(self, kind: str, items: dict, name: Any, info: tuple) -> Callable:
        if not isinstance(name, str):
            raise TypeError(f'write @pack.{kind}("NAME", "SUMMARY") with a name')
        if name in items:
            raise ValueError(f"{kind} `{name}` is declared twice")

        def add(target: Any) -> Any:
            if kind == "prompt":
                _check_call(name, target, "request")
            else:
                if not hasattr(target, "push"):
                    raise TypeError(f"processor `{name}` has no method push(self, chunk)")
                _check_call(f"{name}.push", target.push, "self", "chunk")
                if hasattr(target, "finish"):
                    _check_call(f"{name}.finish", target.finish, "self", "stop")
            items[name] = target
            self.infos[kind].append((name, *info))
            return target

        return add


packs: list[Pack] = []


def _check_call(name: str, function: Any, *arguments: str) -> None:
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError as error:
        wanted = ", ".join(arguments)
        raise TypeError(f"`{name}` must take ({wanted}): {error}") from None
