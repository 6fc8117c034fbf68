"""Compare two answers by structure and algebra. Runs in a sandbox worker: nothing here may be called on model output in
the trainer's own process."""

from __future__ import annotations

import importlib
import sys
from functools import lru_cache
from typing import Never

import sympy

from r1rl.verify.bounded import Undecided, Unparsable
from r1rl.verify.compare import Comparison
from r1rl.verify.notation import normalise
from r1rl.verify.structure import Malformed, Parsed, parse

_WARM_UP = r"""
\frac{1}{2}+\sqrt{3} ~ 0.5+3^{1/2}
x^2+2x+1 ~ (x+1)^2
(1,2]\cup[3,\infty) ~ (1,2]\cup(3,4)
\{1,2\} ~ 2,1
\frac{\pi}{6} ~ \arctan(1/\sqrt{3})
\sin^2 x ~ 1-\cos^2 x
\log_2 8+2n! ~ \ln 2
y=2x+1 ~ 2x-y+1=0
|x-1| ~ \sqrt[3]{5}\cdot e^{2x}
\frac{a-b}{2c} ~ 3\pm 2i
\begin{pmatrix}1&2\\3&4\end{pmatrix} ~ \begin{pmatrix}1&2\\3&5\end{pmatrix}
\int_0^1 x^2 e^x dx ~ \sum_{k=1}^{n} k^2
\int \sqrt{\tan x} dx ~ \prod_{k=1}^5 k
\lim_{x\to 0}\frac{\sin x}{x} ~ \det\begin{pmatrix}1&2\\3&4\end{pmatrix}
"""


def compare(gold: str, answer: str) -> list[str]:
    """[outcome, path] for two cleaned answers, as a sandbox returns it."""
    try:
        gold_node = _parsed(gold)
    except Malformed:
        return ["unparsable", "gold"]
    try:
        answer_node = _parsed(answer)
    except Malformed:
        return ["unparsable", "structure"]
    comparison = Comparison()
    try:
        same = comparison.equal(gold_node, answer_node)
    except Unparsable:
        return ["unparsable", "expression"]
    except Undecided as reason:
        return ["unparsable", str(reason)]
    except ArithmeticError:  # overflow, or insufficient precision
        return ["unparsable", "arithmetic"]
    except (TypeError, ValueError, NotImplementedError):  # sympy raises it for a comparison without meaning
        return ["unparsable", "undefined"]
    return ["correct" if same else "wrong", comparison.path]


@lru_cache(maxsize=512)
def _parsed(text: str) -> Parsed:
    return parse(normalise(text))


def warm_up() -> None:
    """Fill the caches of the grammar and of sympy before workers are forked from this process.

    Workers may neither evaluate text nor write files, as a first use would: sympy builds its tables of hypergeometric
    functions from text, and Python stores the bytecode of a late import.
    """
    sys.set_int_max_str_digits(100_000)  # numbers are limited by algebra itself
    for pair in _WARM_UP.strip().splitlines():
        compare(*pair.split(" ~ "))
    z = sympy.Symbol("z")
    sympy.hyperexpand(sympy.hyper((1, 1), (2,), z) + sympy.meijerg([[], []], [[0], []], z))
    sympy.integrals.meijerint.meijerint_indefinite(sympy.exp(z), z)


def lock_down() -> None:
    """Make sympy raise an ordinary error instead of compiling text or expressions, which no comparison needs.

    Otherwise text that reached ``sympify`` would be evaluated, for which the sandbox kills the worker.
    """
    for maker in ("sympy.parsing.sympy_parser:parse_expr", "sympy.utilities.lambdify:lambdify", "sympy:lambdify"):
        module, _, name = maker.partition(":")
        setattr(importlib.import_module(module), name, _refuse)


def _refuse(text: object, *_: object, **__: object) -> Never:
    raise sympy.SympifyError(text)
