"""The exports of the component. The pack is in `app.py`, which this module imports, so this is the
module to build:

    componentize-py -d wit -w pack componentize lmstrix_exports -o NAME.wasm
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import linecache
import os
import reprlib
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from componentize_py_types import Err
from lmstrix_pack import (
    Context,
    InvalidFile,
    Message,
    Model,
    Outcome,
    Pack,
    PackError,
    Param,
    Request,
    Resolved,
    Stop,
    clean,
    packs,
)
from wit_world import exports
from wit_world.imports import types

# Checks of values from the author. `where` names the field.


def _check(is_valid: bool, where: str, wanted: str, value: Any) -> Any:
    if not is_valid:
        literals = (str, int, float, list, tuple, dict, bytes, type(None))
        shown = reprlib.repr(value) if isinstance(value, literals) else f"a {type(value).__name__}"
        advice = "; remove `async`" if inspect.iscoroutine(value) else ""
        raise PackError("invalid-value", f"{where} must be {wanted}, not {shown}{advice}")
    return value


def _text(where: str, value: Any) -> str:
    _check(isinstance(value, str), where, "a string", value)
    return _check(value.encode(errors="ignore").decode() == value, where, "valid Unicode", value)


def _list(where: str, value: Any, item: Callable = _text) -> list[Any]:
    _check(isinstance(value, (list, tuple)), where, "a list", value)
    return [item(f"{where}[{at}]", value) for at, value in enumerate(value)]


def _dict(where: str, value: Any) -> Any:
    return _check(isinstance(value, dict), where, "a dict", value).items()


def _entries(where: str, value: Any) -> list[Any]:
    return [
        types.Entry(_text(f"{where}: the key", key), _text(f"{where}[{key!r}]", text))
        for key, text in _dict(where, value)
    ]


_MAX = sys.float_info.max
_NUMBERS = {
    "temperature": (0, _MAX),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "repeat_penalty": (0, _MAX),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}
_INTEGERS = {"top_k": 2**32 - 1, "max_tokens": 2**32 - 1, "seed": 2**64 - 1}
_LEVELS = ["off", "on", "low", "medium", "high"]
_SETTINGS = [*_NUMBERS, *_INTEGERS, "stop", "json_schema", "reasoning", "other"]


def _setting_values(where: str, name: str, value: Any) -> list[Any]:
    if name == "max_tokens" and value is None:
        return [None]
    if name in _NUMBERS or name in _INTEGERS:
        low, high = _NUMBERS.get(name) or (0, _INTEGERS[name])
        # A bool is an int, but not meant as a number.
        is_number = type(value) is int or (type(value) is float and name in _NUMBERS)
        _check(is_number, where, "a number" if name in _NUMBERS else "an integer", value)
        wanted = f"finite and at least {low}" if high == _MAX else f"between {low} and {high}"
        _check(low <= value <= high, where, wanted, value)
        return [float(value) if name in _NUMBERS else value]
    if name == "stop":
        return _list(where, [value] if isinstance(value, str) else value)
    if name == "other":
        return _entries(where, value)
    if name == "reasoning":
        _check(value in _LEVELS, where, f"one of {', '.join(_LEVELS)}", value)
    if isinstance(value, dict):
        with suppress(TypeError, ValueError):
            return [json.dumps(value)]
        _check(name != "json_schema", where, "a schema that JSON can express", value)
    return [_text(where, value)]


def _settings(where: str, settings: Any) -> list[Any]:
    converted: list[Any] = []
    for name, value in _dict(f"{where}: settings", settings):
        if name not in _SETTINGS:
            known = difflib.get_close_matches(str(name), _SETTINGS, 1) or _SETTINGS
            message = f"{where}: unknown setting {name!r}; use {', '.join(known)}"
            raise PackError("invalid-value", message)
        case = getattr(types, "Setting_" + name.title().replace("_", ""))
        converted += map(case, _setting_values(f"{where}: settings[{name!r}]", name, value))
    return converted


def _message(where: str, message: Any) -> Any:
    message = Message("user", message) if isinstance(message, str) else message
    _check(isinstance(message, Message), where, "a string or Message", message)
    roles = {role.name.lower(): role for role in types.Role}
    _check(message.role in list(roles), f"{where}.role", f"one of {', '.join(roles)}", message.role)
    content = _text(f"{where}.content", message.content)
    attachments = _list(f"{where}.attachments", message.attachments)
    return types.Message(roles[message.role], content, attachments, [])


def _processor_ref(where: str, value: Any) -> Any:
    name, options = (value, {}) if isinstance(value, str) else _pair(where, "NAME, OPTIONS", value)
    return types.ProcessorRef(_text(where, name), _entries(f"{where}: options", options))


def _pair(where: str, items: str, value: Any) -> tuple[Any, Any]:
    is_pair = isinstance(value, tuple) and len(value) == 2
    return _check(is_pair, where, f"a string or a tuple ({items})", value)


def _resolved(where: str, result: Any) -> Any:
    result = Resolved([result]) if isinstance(result, str) else result
    _check(isinstance(result, Resolved), f"{where}: the result", "a string or Resolved", result)
    if result.raw is None:
        messages = _list(f"{where}: messages", result.messages, _message)
        _check(bool(messages), f"{where}: messages", "set if raw is not set", result.messages)
        model_input = exports.resolver.Input_Chat(messages)
    else:
        _check(not result.messages, f"{where}: messages", "empty if raw is set", result.messages)
        model_input = exports.resolver.Input_Raw(_text(f"{where}: raw", result.raw))
    extension = result.extension
    return exports.resolver.Resolved(
        model_input,
        _settings(where, result.settings),
        _list(f"{where}: post", result.post, _processor_ref),
        None if extension is None else _text(f"{where}: extension", extension),
        _list(f"{where}: warnings", result.warnings),
        [],
    )


def _param(where: str, param: Any) -> Any:
    _check(isinstance(param, Param), where, "a Param", param)
    default = None if param.default is None else _text(f"{where}.default", param.default)
    name, summary = _text(f"{where}.name", param.name), _text(f"{where}.summary", param.summary)
    required = bool(param.required) and default is None
    return exports.catalog.ParamInfo(name, summary, required, default, [])


def _contents(pack: Pack) -> Any:
    def infos(kind: str, info: Callable) -> list[Any]:
        return [
            info(
                name,
                _text(f"{kind} `{name}`: summary", summary),
                _list(f"{kind} `{name}`: Param", params, _param),
                [types.Entry("any-params", "true")] if any_params else [],
            )
            for name, summary, params, any_params in pack.infos[kind]
        ]

    prompts = infos("prompt", exports.catalog.PromptInfo)
    processors = infos("processor", exports.catalog.ProcessorInfo)
    summary = _text("the summary of the pack", pack.summary)
    return exports.catalog.Contents(summary, prompts, processors, [])


# Conversion of exceptions into errors of the contract. After a crash, the message would have the
# reason between those of the runtime.

_SDK = [__file__, sys.modules["lmstrix_pack"].__file__]
_sources: dict[str, str] = {}  # Path in the component, and name.


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except PackError as error:
        is_file = isinstance(error, InvalidFile)
        value = types.FileError(*error.value) if is_file else error.value
        raise Err(getattr(types, f"Error_{error.case}")(value)) from None
    except BaseException as error:  # Also `SystemExit`, which would end the call without a line.
        raise Err(types.Error_Other(("python", _report(error)))) from None


def _report(error: BaseException) -> str:
    """Prints the traceback. Returns the exception and the last line in the author's modules."""
    while error.__traceback__ and error.__traceback__.tb_frame.f_code.co_filename in _SDK:
        error.__traceback__ = error.__traceback__.tb_next
    text = "".join(traceback.format_exception(error))
    for file, name in _sources.items():
        text = text.replace(file, name)
    print(text, file=sys.stderr, end="")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in _sources]
    place = f" ({_sources[frames[-1].filename]}:{frames[-1].lineno})" if frames else ""
    return clean(traceback.format_exception_only(error)[-1].strip() + place)


def _keep_sources() -> None:
    """Keeps the lines of the author's modules for tracebacks: a component has no files."""
    folder = os.path.dirname(sys.modules["app"].__file__ or "") + os.sep
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and file not in _SDK and file.startswith(folder):
            # Without a modification time, `linecache` does not look for the file.
            linecache.cache[file] = (0, None, linecache.getlines(file), file)
            _sources[file] = os.path.basename(file)


# The exports.


def _find(kind: str, items: dict[str, Any], name: str) -> Any:
    if name not in items:
        close = difflib.get_close_matches(name, items)
        raise Err(getattr(types, f"Error_Unknown{kind.title()}")(close))
    return items[name]


def _pairs(entries: Any) -> list[tuple[str, str]]:
    return [(entry.key, entry.value) for entry in entries]


def _fields(call: Any) -> dict[str, Any]:
    model = call.model
    if model:
        facts = dict(_pairs(model.extra))
        model = Model(model.id, model.architecture, model.context_length, facts)
    return {
        "prompt": call.prompt,
        "params": dict(_pairs(call.params)),
        "files": {file.name: file.text for file in call.files},
        "model": model,
        "extra": _pairs(call.extra),
    }


class Catalog:
    contents: Any

    def describe(self, files: Any) -> Any:
        return Catalog.contents


class Resolver:
    def resolve(self, request: Any) -> Any:
        function = _find("prompt", packs[0].prompts, request.prompt)
        with _errors():
            return _resolved(f"prompt `{request.prompt}`", function(Request(**_fields(request))))


class PostProcessor:
    pass


class Processor:
    def __init__(self, where: str, processor: Any):
        self.where = where
        self.processor = processor

    @classmethod
    def open(cls, context: Any) -> Processor:
        author_class = _find("processor", packs[0].processors, context.processor)
        options = dict(_pairs(context.options))
        given = Context(**_fields(context), processor=context.processor, options=options)
        with _errors():
            takes_context = author_class.__init__ is not object.__init__
            processor = author_class(given) if takes_context else author_class()
            return cls(f"processor `{context.processor}`", processor)

    def push(self, chunk: str) -> Any:
        with _errors():
            where = f"{self.where}: the result of push"
            result = self.processor.push(chunk)
            is_text = isinstance(result, str)
            text, done = (result, False) if is_text else _pair(where, "TEXT, DONE", result)
            _check(isinstance(done, bool), f"{where}[1]", "a bool", done)
            return exports.post_processor.Pushed(_text(where, text), done)

    def finish(self, reason: Any) -> Any:
        with _errors():
            where = f"{self.where}: the result of finish"
            case = type(reason).__name__.removeprefix("Stop_").replace("ContextF", "Context-f")
            stop = Stop(case.lower())
            stop.reason = getattr(reason, "value", "")
            result = self.processor.finish(stop) if hasattr(self.processor, "finish") else None
            outcome = Outcome(result or "") if result is None or isinstance(result, str) else result
            _check(isinstance(outcome, Outcome), where, "a string, None or Outcome", outcome)
            tail, warnings = _text(f"{where}.tail", outcome.tail), outcome.warnings
            return exports.post_processor.Outcome(tail, _list(f"{where}.warnings", warnings), [])


def _sleep(seconds: Any) -> None:
    # The sandbox would end the call, and the message would have no traceback.
    raise RuntimeError("packs must not wait for a clock")


def _load_app() -> None:
    # componentize-py looks for the class `Processor` in a module of this name.
    sys.modules["post_processor"] = sys.modules[__name__]
    for name in ["resolver", "post_processor"]:
        with suppress(ModuleNotFoundError):  # The world has only one of them.
            importlib.import_module(f"wit_world.exports.{name}")
    time.sleep = _sleep
    import app  # noqa: F401

    if len(packs) != 1:
        raise TypeError(f"app.py must create one Pack, not {len(packs)}")
    Catalog.contents = _contents(packs[0])
    for name, items in [("resolver", packs[0].prompts), ("post_processor", packs[0].processors)]:
        if items and not hasattr(exports, name):
            raise TypeError(f"the world has no {name}; build with `-w pack`")
    _keep_sources()


_load_app()
