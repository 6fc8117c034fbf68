"""Runs inside the sandbox, together with a program: calls its functions, or holds the tests that do.

``program_source`` and ``judge_source`` (r1rl.programs.calls, r1rl.programs.asserts) put this file's text in front of
what they run. It imports the standard library alone, and runs on every Python from 3.8 on. ``encode`` and ``decode``
are also used outside, on what the program answers.

One request and one answer per line, as JSON. A program that forges its answers only answers wrongly: what is expected
is never in its process. Values that are not plain data stay where they are and are named by a handle; nothing that a
program defines, such as an ``__eq__`` of its own, ever runs where results are compared.
"""

from __future__ import annotations

import json
import math
import os
import sys
import types
from typing import Any

SYNTAX_ERROR = 101
"""Exit code of a program that does not compile."""
_PLAIN_BITS = 4000
"""Longer integers are sent in hexadecimal: JSON's reader takes at most 4,300 decimal digits."""
_DEPTH = 200


class Opaque:
    """A value that is not plain data, known by the name of its type; equal to nothing but itself."""

    def __init__(self, handle: Any, kind: str) -> None:
        self.handle, self.kind = handle, kind

    def __repr__(self) -> str:
        return f"<{self.kind} object>"


class NotPlain(TypeError):
    """A value that cannot be sent, and that nobody keeps."""


def encode(value: Any, keep: Any = None, depth: int = 0) -> Any:
    """A value as JSON: scalars and lists as themselves, other types as an object with the type as its only key.

    ``keep(value)`` gives the number under which a value that is not plain data is kept.

    Raises: NotPlain for such a value without ``keep``, ValueError for one that is nested too deeply.
    """
    if depth > _DEPTH:
        raise ValueError("nested too deeply to be sent")
    if value is None or value is True or value is False or type(value) is str:
        return value
    for base, write in _WRITERS:
        if isinstance(value, base):
            return write(value, keep, depth + 1)
    if keep is None:
        raise NotPlain(f"a {type(value).__name__} cannot be passed")
    return {"handle": [keep(value), type(value).__name__]}


def _each(values: Any, keep: Any, depth: int) -> list[Any]:
    return [encode(value, keep, depth) for value in values]


def _text(value: str, keep: Any, depth: int) -> Any:
    return str.__str__(value)


def _int(value: int, keep: Any, depth: int) -> Any:
    number = int.__index__(value)
    return number if number.bit_length() < _PLAIN_BITS else {"int": hex(number)}


def _float(value: float, keep: Any, depth: int) -> Any:
    number = float.__float__(value)
    return number if math.isfinite(number) else {"float": repr(number)}


def _complex(value: complex, keep: Any, depth: int) -> Any:
    return {"complex": [_float(value.real, keep, depth), _float(value.imag, keep, depth)]}


def _list(value: list[Any], keep: Any, depth: int) -> Any:
    return _each(list.__iter__(value), keep, depth)


def _tuple(value: Any, keep: Any, depth: int) -> Any:
    return {"tuple": _each(tuple.__iter__(value), keep, depth)}


def _dict(value: dict[Any, Any], keep: Any, depth: int) -> Any:
    return {"dict": [[encode(key, keep, depth), encode(item, keep, depth)] for key, item in dict.items(value)]}


def _set(value: Any, keep: Any, depth: int) -> Any:
    return {"set": _each(set.__iter__(value), keep, depth)}


def _frozenset(value: Any, keep: Any, depth: int) -> Any:
    return {"frozenset": _each(frozenset.__iter__(value), keep, depth)}


def _bytes(value: Any, keep: Any, depth: int) -> Any:
    return {"bytes": value.hex()}


def _range(value: range, keep: Any, depth: int) -> Any:
    return {"range": [value.start, value.stop, value.step]}


def _opaque(value: Opaque, keep: Any, depth: int) -> Any:
    return {"handle": [value.handle, value.kind]}


_WRITERS: list[Any] = [
    (str, _text),
    (int, _int),
    (float, _float),
    (complex, _complex),
    (list, _list),
    (tuple, _tuple),
    (dict, _dict),
    (set, _set),
    (frozenset, _frozenset),
    ((bytes, bytearray), _bytes),
    (range, _range),
    (Opaque, _opaque),
]


def decode(value: Any, meet: Any = Opaque) -> Any:
    """The value that ``encode`` wrote; ``meet(handle, kind)`` stands for one that is kept elsewhere.

    Raises: ValueError, TypeError, KeyError or RecursionError for anything that ``encode`` does not write.
    """
    if isinstance(value, list):
        return [decode(item, meet) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, item),) = value.items()
    if kind == "handle":
        return meet(item[0], str(item[1]))
    if kind == "dict":
        return {decode(key, meet): decode(one, meet) for key, one in item}
    return _READERS[kind](decode(item, meet))


def _read_int(text: str) -> int:
    return int(text, 16)


def _read_complex(parts: list[float]) -> complex:
    return complex(*parts)


def _read_range(ends: list[int]) -> range:
    return range(*ends)


_READERS: dict[str, Any] = {
    "int": _read_int,
    "float": float,
    "complex": _read_complex,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "bytes": bytes.fromhex,
    "range": _read_range,
}


class Line:
    """The two ends of the connection, taken away from the code that runs here: what it prints goes to stderr, and its
    stdin is empty."""

    def __init__(self) -> None:
        self._in = os.fdopen(os.dup(0), "r", encoding="utf-8", newline="\n")
        self._out = os.dup(1)
        reading, writing = os.pipe()
        os.close(writing)
        os.dup2(reading, 0)
        os.dup2(2, 1)

    def send(self, message: Any) -> None:
        left = memoryview((json.dumps(message) + "\n").encode())
        while left:
            left = left[os.write(self._out, left) :]

    def receive(self) -> Any:
        """The next message; None at the end of the connection."""
        text = self._in.readline()
        return json.loads(text) if text else None


class ModuleHost:
    """The program's side: does what requests ask for."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._kept: list[Any] = []

    def answer(self, request: Any) -> Any:
        """``["value", result, arguments that changed]`` or ``["raise", class names, message]``."""
        try:
            return self._do(*request)
        except BaseException as error:  # also what ends a program: its caller is told
            names = [kind.__name__ for kind in type(error).__mro__]
            return ["raise", names, _message(error)]

    def _do(self, operation: str, target: Any, *rest: Any) -> Any:
        subject = self._met(target, "")
        if operation != "call":
            return ["value", encode(_OPERATIONS[operation](subject, *self._arguments(rest)), self._keep), {}]
        args, named = self._arguments(rest)
        before = [_image(value) for value in args]
        result = encode(subject(*args, **named), self._keep)
        changed = {str(place): image for place, image in enumerate(map(_image, args)) if image != before[place]}
        return ["value", result, changed]

    def _arguments(self, encoded: Any) -> list[Any]:
        return [decode(value, self._met) for value in encoded]

    def _find(self, name: str) -> Any:
        found = self._module.__dict__
        if name in found:
            return found[name]
        if "Solution" in found and hasattr(found["Solution"], name):  # as LeetCode has it
            return getattr(found["Solution"](), name)
        raise NameError(f"name {name!r} is not defined")

    def _keep(self, value: Any) -> int:
        self._kept.append(value)
        return len(self._kept) - 1

    def _met(self, handle: Any, kind: str) -> Any:
        return self._kept[handle] if isinstance(handle, int) else self._find(handle)


def _item(subject: Any, key: Any) -> Any:
    return subject[key]


def _contains(subject: Any, key: Any) -> bool:
    return key in subject


_OPERATIONS: dict[str, Any] = {
    "get": getattr,
    "set": setattr,
    "len": len,
    "str": str,
    "repr": repr,
    "bool": bool,
    "item": _item,
    "contains": _contains,
    "iter": iter,
    "next": next,
}


def _image(value: Any) -> Any:
    """An argument as it can be sent back when a call has changed it; None for what cannot change or be sent."""
    try:
        return encode(value) if isinstance(value, (list, dict, set)) else None
    except (NotPlain, ValueError, RecursionError):
        return None


def _message(error: BaseException) -> str:
    try:
        return str(error)[:500]
    except BaseException:
        return ""


def serve(source: str) -> None:
    """Load a program as a module of its own, then answer requests until the connection ends."""
    line = Line()
    module = types.ModuleType("solution")
    sys.modules["solution"] = module
    try:
        code = compile(source, "solution.py", "exec")
    except (SyntaxError, ValueError) as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode("utf-8", "replace"))
        os._exit(SYNTAX_ERROR)
    exec(code, module.__dict__)
    host = ModuleHost(module)
    while True:
        request = line.receive()
        if request is None:
            os._exit(0)
        line.send(host.answer(request))


# ------------------------------------------------------------------------------------------------------- the judge


class ProgramEnded(BaseException):
    """The program has ended before its tests did."""


class ProgramRaised(Exception):
    """Marks, as the cause of an exception, that the program raised it."""


class Remote(Opaque):
    """Stands for an object of the program, by a handle or by its name: what is done to it is done there.

    Compared by identity alone, so that no ``__eq__`` of the program decides a test.
    """

    def __init__(self, ask: Any, target: Any, kind: str = "function") -> None:
        Opaque.__init__(self, target, kind)
        object.__setattr__(self, "ask", ask)

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self.ask("call", self.handle, list(args), named)

    def __getattr__(self, name: str) -> Any:
        return self.ask("get", self.handle, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("handle", "kind"):
            object.__setattr__(self, name, value)
        else:
            self.ask("set", self.handle, name, value)

    def __len__(self) -> int:
        return int(self.ask("len", self.handle))

    def __str__(self) -> str:
        return str(self.ask("str", self.handle))

    def __repr__(self) -> str:
        return str(self.ask("repr", self.handle))

    def __bool__(self) -> bool:
        return bool(self.ask("bool", self.handle))

    def __getitem__(self, key: Any) -> Any:
        return self.ask("item", self.handle, key)

    def __contains__(self, key: Any) -> bool:
        return bool(self.ask("contains", self.handle, key))

    def __iter__(self) -> Any:
        return self.ask("iter", self.handle)

    def __next__(self) -> Any:
        return self.ask("next", self.handle)


class JudgeSide:
    """Holds the tests, asks the program, and counts the asserts that hold."""

    def __init__(self, go_on: bool) -> None:
        self._line = Line()
        self._go_on = go_on
        self.passed = 0
        self.failures: list[str] = []

    def remote(self, name: str) -> Remote:
        return Remote(self.ask, name)

    def ask(self, operation: str, target: Any, *rest: Any) -> Any:
        request = [operation, target, *[encode(value) for value in rest]]
        try:
            self._line.send(request)
            kind, result, more = self._line.receive()
            value = decode(result, self._meet) if kind == "value" else None
        except Exception as error:  # no answer, or none that this file's other half would give
            raise ProgramEnded() from error
        if kind == "raise":
            raise _exception(result, more) from ProgramRaised()
        for place, image in more.items():
            _replace(rest[0][int(place)], decode(image, self._meet))
        return value

    def _meet(self, handle: Any, kind: str) -> Remote:
        return Remote(self.ask, handle, kind)

    def held(self) -> None:
        self.passed += 1

    def broken(self, error: Exception) -> None:
        self.failures.append(_reason(error))
        if not self._go_on:
            raise error

    def report(self, reason: str | None = None, error: BaseException | None = None) -> None:
        """Write the counts as the last line of stderr, and end."""
        failures = self.failures + ([reason] if reason else [])
        if error is not None:
            os.write(2, f"\n{type(error).__name__}: {_message(error)}".encode("utf-8", "replace"))
        text = json.dumps({"passed": self.passed, "failed": len(self.failures), "failures": failures[:1]})
        os.write(2, f"\n{text}\n".encode())
        os._exit(0)


def _reason(error: BaseException) -> str:
    if isinstance(error.__cause__, ProgramRaised):
        return "runtime_error"
    return "tests" if isinstance(error, (ImportError, NotPlain)) else "wrong"


def _exception(names: Any, message: Any) -> Exception:
    """The nearest built-in exception. Never one that would end the judge."""
    import builtins

    for name in names:
        kind = getattr(builtins, str(name), None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            try:
                return kind(message)
            except TypeError:  # one that needs other arguments
                continue
    return RuntimeError(message)


def _replace(old: Any, new: Any) -> None:
    """What a call did to its argument, done to the tests' own."""
    old.clear()
    (old.extend if isinstance(old, list) else old.update)(new)


def judge(setup: str, tests: str, names: list[str], entry: str | None, go_on: bool) -> None:
    """Run tests whose calls of ``names`` go to the program; ``entry``: what HumanEval's ``check`` is given."""
    import random

    random.seed(0)  # the same verdict each time
    one = JudgeSide(go_on)
    space: dict[str, Any] = {"__name__": "tests", "_r1rl_judge": one}
    space.update({name: one.remote(name) for name in names})
    try:
        exec(compile(setup, "setup.py", "exec"), space)
        exec(compile(tests, "tests.py", "exec"), space)
        if entry is not None:
            space["check"](one.remote(entry))
    except ProgramEnded:
        one.report("ended")
    except Exception as error:
        one.report(None if one.failures else _reason(error), error)
    one.report()
