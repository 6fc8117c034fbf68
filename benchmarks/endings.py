"""Random expressions of every kind of answer, and the ends of completions that they are put into."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Draw = random.Random


@dataclass(frozen=True)
class Expression:
    """An answer in LaTeX, and in plain text; equal where it has only one notation."""

    kind: str
    latex: str
    plain: str


@dataclass(frozen=True)
class Ending:
    """``text`` with one ``{}``; ``form`` is what it takes: ``latex`` in delimiters, ``raw`` LaTeX, or ``plain``."""

    text: str
    form: str


LATEX_ENDINGS = (
    r"Therefore, the answer is $\boxed{{{}}}$.",
    r"\boxed{{{}}}",
    r"Hence \[ \boxed{{{}}} \]",
    r"**Final Answer**" + "\n" + r"\[\boxed{{{}}}\]",
    r"\[ x_0 = \fbox{{{}}} . \]",
    r"<think>It could be \boxed{{7}}.</think> So we have $\boxed{{{}}}$, as claimed.",
    r"<answer>\boxed{{{}}}</answer>",
    "<answer>${}$</answer>",
    r"<answer>The result is \({}\).</answer>",
    "The answer is ${}$.",
    r"The final answer is \({}\). I hope it is correct.",
    "Final Answer: The final answer is ${}$. I hope it is correct.",
    "**Answer:** ${}$",
    "Answer: \n\n$${}$$",
    r"Thus, the correct answer is \[{}\]",
    "So we get ${}$.",
    "So we get ${}$",
    "Therefore $${}$$",
    r"\[ {} \]",
    r"Hence \({}\).",
    r"This simplifies to \({}\), which is what we wanted.",
    "We conclude that the result is ${}$!",
    "Thus ${}$ is the answer.",
    r"Therefore, \({}\) is our final answer.",
    r"It follows that \begin{{equation}} {} \end{{equation}}",
    r"Since this holds, we find \[{}.\]",
    r"#### ${}$",
    "Therefore, the answer is **${}$**.",
    "因此，答案是 ${}$。",
    "综上所述，最终结果为 ${}$。",
    "La respuesta es ${}$.",
    "The answer to the question is therefore ${}$. Please ask if you have 2 more questions.",
    "Wait, that was wrong. The answer is $7$. No, the answer is ${}$.",
    "So:\n\n$$\n{}\n$$\n",
    "Q.E.D. The value is ${}$. $\\blacksquare$",
)
PLAIN_ENDINGS = (
    "The answer is {}.",
    "The answer is: {}",
    "the answer is {}",
    "Answer: {}",
    "A: {}",
    "**Answer:** {}",
    "**Answer: {}**",
    "Final Answer: {}",
    "Final answer: **{}**",
    "#### {}",
    "We add them up.\n#### {}",
    "<answer>{}</answer>",
    "<answer> {} </answer>",
    "<answer>\n{}\n</answer>",
    "So we get {}.",
    "Therefore {}",
    "Therefore, {}.",
    "= {}",
    "The result is {}",
    "The result is **{}**.",
    "Hence, {} is the answer.",
    "So the final value is {}. I hope this helps!",
    "The answer is {}. This took 3 steps.",
    "The answer is {}, because the two sides are equal.",
    "Therefore, the final answer is: {}.",
    "所以答案是{}。",
    "答案：{}",
    "{}",
)
PREFIXES = (
    "", "", "First we note that 3 + 4 = 7.\n", "Let $n = 12$ be given. ",
    "Step 1: add 5 and 6.\n\nStep 2: double it.\n\n", "<think>Perhaps 12? No, \\frac{1}{2}.</think>\n",
    "We know that \\(a > 2\\) and \\(b < 9\\). ",
    "She sold 5 apples for $3 each, so 5 * 3 = <<5*3=15>>15 dollars. ",
)  # fmt: skip

ENDINGS = (
    *(Ending(text, "latex") for text in LATEX_ENDINGS),
    *(Ending(text, "raw") for text in PLAIN_ENDINGS),
    *(Ending(text, "plain") for text in PLAIN_ENDINGS),
)


def cases(count: int, seed: int) -> Iterator[tuple[Expression, Ending, str]]:
    """(expression, ending, completion), each kind and each ending equally often."""
    draw = Draw(seed)
    kinds = list(KINDS)
    for index in range(count):
        kind = kinds[index % len(kinds)]
        latex, plain = KINDS[kind](draw)
        expression = Expression(kind, latex, plain)
        ending = draw.choice(ENDINGS)
        written = plain if ending.form == "plain" else latex
        yield expression, ending, draw.choice(PREFIXES) + ending.text.format(written)


def given(expression: Expression, ending: Ending) -> str:
    """The expression as the ending contains it."""
    return expression.plain if ending.form == "plain" else expression.latex


def _integer(draw: Draw) -> tuple[str, str]:
    value = str(draw.choice((draw.randint(-20, 20), draw.randint(-999, 9999))))
    return value, value


def _decimal(draw: Draw) -> tuple[str, str]:
    value = f"{draw.uniform(-50, 500):.{draw.randint(1, 4)}f}"
    return value, value


def _thousands(draw: Draw) -> tuple[str, str]:
    value = draw.randint(1_000, 90_000_000)
    plain = f"{value:,}"
    return draw.choice((plain, plain.replace(",", "{,}"), plain.replace(",", ",\\!"), plain.replace(",", "\\,"))), plain


def _scientific(draw: Draw) -> tuple[str, str]:
    mantissa, power = f"{draw.uniform(1, 9):.2f}", draw.randint(-9, 12)
    return rf"{mantissa} \times 10^{{{power}}}", f"{mantissa} × 10^{power}" if power > 0 else f"{mantissa}e{power}"


def _fraction(draw: Draw) -> tuple[str, str]:
    top, bottom, sign = draw.randint(1, 60), draw.randint(2, 60), draw.choice(("", "", "-"))
    return rf"{sign}\{draw.choice(('frac', 'dfrac', 'tfrac'))}{{{top}}}{{{bottom}}}", f"{sign}{top}/{bottom}"


def _mixed(draw: Draw) -> tuple[str, str]:
    whole, top, bottom = draw.randint(1, 12), draw.randint(1, 5), draw.randint(6, 12)
    return rf"{whole}\frac{{{top}}}{{{bottom}}}", f"{whole} {top}/{bottom}"


def _root(draw: Draw) -> tuple[str, str]:
    factor, inside, added = draw.randint(2, 9), draw.choice((2, 3, 5, 7, 11)), draw.randint(1, 9)
    return draw.choice(
        (
            (rf"\sqrt{{{inside}}}", f"sqrt({inside})"),
            (rf"{factor}\sqrt{{{inside}}}", f"{factor}√{inside}"),
            (rf"{added} + {factor}\sqrt{{{inside}}}", f"{added} + {factor}*sqrt({inside})"),
            (rf"\frac{{{added} - \sqrt{{{inside}}}}}{{{factor}}}", f"({added} - sqrt({inside}))/{factor}"),
            (rf"\sqrt[3]{{{inside}}}", f"{inside}^(1/3)"),
        )
    )


def _power(draw: Draw) -> tuple[str, str]:
    base, exponent = draw.randint(2, 9), draw.randint(2, 20)
    return draw.choice(
        (
            (f"{base}^{{{exponent}}}", f"{base}^{exponent}"),
            (f"{base}^{{{exponent}}} - 1", f"{base}^{exponent} - 1"),
            (rf"{base} \cdot 10^{{{exponent}}}", f"{base} * 10^{exponent}"),
        )
    )


def _constant(draw: Draw) -> tuple[str, str]:
    number, other = draw.randint(2, 12), draw.randint(2, 9)
    return draw.choice(
        (
            (rf"{number}\pi", f"{number}π"),
            (rf"\frac{{{number}\pi}}{{{other}}}", f"{number}*pi/{other}"),
            (rf"{number} - \frac{{{other}}}{{e}}", f"{number} - {other}/e"),
            (rf"\ln {number}", f"ln({number})"),
            (rf"\log_{{2}} {number}", f"log({number})"),
            (rf"\sin {number}^\circ", f"sin({number})"),
        )
    )


def _polynomial(draw: Draw) -> tuple[str, str]:
    a, b, c = draw.randint(2, 9), draw.randint(1, 9), draw.randint(1, 20)
    return draw.choice(
        (
            (f"{a}x^2 - {b}x + {c}", f"{a}x^2 - {b}x + {c}"),
            (f"x^{{{a}}} + {c}", f"x^{a} + {c}"),
            (f"{a}n + {c}", f"{a}n + {c}"),
            (f"(x + {a})(x - {b})", f"(x + {a})(x - {b})"),
            (rf"\frac{{x + {a}}}{{x - {b}}}", f"(x + {a})/(x - {b})"),
            (f"{a}ab + {b}c", f"{a}ab + {b}c"),
        )
    )


def _relation(draw: Draw) -> tuple[str, str]:
    name, value, half = draw.choice("xynkt"), draw.randint(-30, 90), draw.randint(2, 9)
    return draw.choice(
        (
            (f"{name} = {value}", f"{name} = {value}"),
            (rf"{name} = \frac{{{value}}}{{{half}}}", f"{name} = {value}/{half}"),
            (rf"{name} = \sqrt{{{half}}}", f"{name} = sqrt({half})"),
            (f"y = {half}x + {abs(value)}", f"y = {half}x + {abs(value)}"),
            (f"f(x) = x^2 + {half}", f"f(x) = x^2 + {half}"),
        )
    )


def _inequality(draw: Draw) -> tuple[str, str]:
    name, low = draw.choice("xyz"), draw.randint(-20, 20)
    high = low + draw.randint(1, 30)
    return draw.choice(
        (
            (rf"{name} \geq {low}", f"{name} ≥ {low}"),
            (rf"{name} < {low}", f"{name} < {low}"),
            (rf"{name} \le \frac{{{low}}}{{7}}", f"{name} <= {low}/7"),
            (rf"{low} < {name} \leq {high}", f"{low} < {name} <= {high}"),
            (rf"{name} \neq {low}", f"{name} ≠ {low}"),
        )
    )


def _interval(draw: Draw) -> tuple[str, str]:
    low = draw.randint(-20, 20)
    high, opening, closing = low + draw.randint(1, 30), draw.choice("[("), draw.choice(")]")
    return draw.choice(
        (
            (f"{opening}{low}, {high}{closing}", f"{opening}{low}, {high}{closing}"),
            (rf"\left{opening}{low}, \frac{{{high}}}{{3}}\right{closing}", f"{opening}{low}, {high}/3{closing}"),
            (rf"(-\infty, {low}) \cup ({high}, \infty)", f"(-∞, {low}) ∪ ({high}, ∞)"),
            (rf"[{low}, +\infty)", f"[{low}, ∞)"),
            (rf"x \in [{low}, {high}]", f"x ∈ [{low}, {high}]"),
        )
    )


def _set(draw: Draw) -> tuple[str, str]:
    values = [str(value) for value in draw.sample(range(-20, 60), draw.randint(2, 5))]
    joined = ", ".join(values)
    return rf"\{{{joined}\}}", f"{{{joined}}}"


def _tuple(draw: Draw) -> tuple[str, str]:
    values = [str(draw.randint(-20, 60)) for _ in range(draw.randint(2, 4))]
    joined = ", ".join(values)
    return draw.choice(
        (
            (f"({joined})", f"({joined})"),
            (rf"\left({joined}\right)", f"({joined})"),
            (rf"\left(\frac{{{values[0]}}}{{7}}, {values[1]}\right)", f"({values[0]}/7, {values[1]})"),
            (f"(x, y) = ({values[0]}, {values[1]})", f"(x, y) = ({values[0]}, {values[1]})"),
        )
    )


def _list(draw: Draw) -> tuple[str, str]:
    values = [str(value) for value in draw.sample(range(-20, 60), draw.randint(2, 4))]
    return draw.choice(
        (
            (", ".join(values), ", ".join(values)),
            (rf"{values[0]} \text{{ and }} {values[1]}", f"{values[0]} and {values[1]}"),
            (rf"x = {values[0]} \text{{ or }} x = {values[1]}", f"x = {values[0]} or x = {values[1]}"),
            (rf"\pm {values[0].lstrip('-')}", f"±{values[0].lstrip('-')}"),
            (f"(1, {values[0]}), (2, {values[1]})", f"(1, {values[0]}), (2, {values[1]})"),
        )
    )


def _matrix(draw: Draw) -> tuple[str, str]:
    a, b, c, d = (draw.randint(-9, 9) for _ in range(4))
    name = draw.choice(("pmatrix", "bmatrix"))
    text = draw.choice(
        (
            rf"\begin{{{name}}} {a} & {b} \\ {c} & {d} \end{{{name}}}",
            rf"\begin{{{name}}}{a}\\{b}\\{c}\end{{{name}}}",
        )
    )
    return text, text


def _percentage(draw: Draw) -> tuple[str, str]:
    value = draw.choice((str(draw.randint(1, 250)), f"{draw.uniform(0, 99):.1f}"))
    return rf"{value}\%", draw.choice((f"{value}%", f"{value} %", f"{value} percent"))


def _money(draw: Draw) -> tuple[str, str]:
    value = draw.choice((str(draw.randint(1, 999)), f"{draw.randint(1_000, 99_999):,}", f"{draw.uniform(1, 99):.2f}"))
    return rf"\${value}", draw.choice((f"${value}", f"${value}", f"{value} dollars", f"€{value}", f"{value}€"))


def _unit(draw: Draw) -> tuple[str, str]:
    value = draw.choice((str(draw.randint(1, 400)), f"{draw.uniform(1, 99):.1f}"))
    latex, plain = draw.choice(
        (
            (r"\text{ cm}", " cm"), (r"\text{ cm}^2", " cm^2"), (r"\text{ m/s}", " m/s"), (r"\mathrm{~km}", " km"),
            (r"\text{ hours}", " hours"), (r"^\circ", "°"), (r"\text{ m}^3", " m³"), (r"\text{ kg}", "kg"),
            (r"\text{ square feet}", " square feet"), (r"\text{ km/h}", " km/h"), (r"\text{ minutes}", " minutes"),
        )
    )  # fmt: skip
    return value + latex, value + plain


def _ratio(draw: Draw) -> tuple[str, str]:
    value = f"{draw.randint(1, 30)}:{draw.randint(1, 30)}"
    return value, value


def _choice(draw: Draw) -> tuple[str, str]:
    letter = draw.choice("ABCDE")
    return draw.choice(((rf"\text{{({letter})}}", f"({letter})"), (rf"\text{{{letter}}}", letter)))


def _words(draw: Draw) -> tuple[str, str]:
    word = draw.choice(("Evelyn", "blue", "odd", "no solution", "the second train", "parabola", "Monday", "true"))
    return rf"\text{{{word}}}", word


def _complex(draw: Draw) -> tuple[str, str]:
    value = f"{draw.randint(1, 20)} {draw.choice('+-')} {draw.randint(2, 20)}i"
    return value, value


def _notation(draw: Draw) -> tuple[str, str]:
    a, b = draw.randint(2, 9), draw.randint(2, 9)
    return draw.choice(
        (
            (f"{a + b}! - {a}", f"{a + b}! - {a}"),
            (rf"\binom{{{a + b}}}{{{a}}}", rf"\binom{{{a + b}}}{{{a}}}"),
            (rf"\sum_{{k=1}}^{{{a}}} k^{b}", rf"\sum_{{k=1}}^{{{a}}} k^{b}"),
            (rf"\int_0^{{{a}}} x^{b} dx", rf"\int_0^{{{a}}} x^{b} dx"),
            (rf"\left|x - {a}\right|", f"|x - {a}|"),
            (rf"\lfloor \sqrt{{{a}}} \rfloor", rf"\lfloor \sqrt{{{a}}} \rfloor"),
            (rf"\langle {a}, {b} \rangle", rf"\langle {a}, {b} \rangle"),
            (rf"1011_{{{a}}}", f"1011_{a}"),
            (rf"x \equiv {a} \pmod{{{a + b}}}", rf"x \equiv {a} \pmod{{{a + b}}}"),
            (rf"{a}\sin^2 x + {b}", f"{a}sin(x) + {b}"),
            (rf"e^{{-{a}x}}", f"e^(-{a}x)"),
            (rf"x^{{{a}}} + {b}", f"x² + {b}"),
            (rf"\frac{{d}}{{{b}}}", f"d/{b}"),
        )
    )


def _system(draw: Draw) -> tuple[str, str]:
    a, b = draw.randint(-20, 20), draw.randint(-20, 20)
    return draw.choice(
        (
            (f"x = {a}, y = {b}", f"x = {a}, y = {b}"),
            (rf"x = {a} \text{{ and }} y = {b}", f"x = {a} and y = {b}"),
            (rf"x = {a}, \quad y = {b}", f"x = {a}, y = {b}"),
        )
    )


def _scaled(draw: Draw) -> tuple[str, str]:
    number = draw.choice((str(draw.randint(2, 90)), f"{draw.uniform(1, 9):.1f}"))
    scale = draw.choice(("million", "thousand", "billion"))
    return rf"{number} \text{{ {scale}}}", f"{number} {scale}"


def _compound(draw: Draw) -> tuple[str, str]:
    a, b = draw.randint(2, 20), draw.randint(2, 50)
    return draw.choice(
        (
            (rf"{a} \text{{ hours }} {b} \text{{ minutes}}", f"{a} hours and {b} minutes"),
            (rf"{a} \text{{ feet }} {b} \text{{ inches}}", f"{a} feet {b} inches"),
            (rf"0.\overline{{{a}}}", f"0.{a}{a}{a}..."),
            (f"{a}:{b:02d}", f"{a}:{b:02d} PM"),
        )
    )


KINDS: dict[str, Callable[[Draw], tuple[str, str]]] = {
    "integer": _integer, "decimal": _decimal, "thousands": _thousands, "scientific": _scientific,
    "fraction": _fraction, "mixed": _mixed, "root": _root, "power": _power, "constant": _constant,
    "polynomial": _polynomial, "relation": _relation, "inequality": _inequality, "interval": _interval, "set": _set,
    "tuple": _tuple, "list": _list, "matrix": _matrix, "percentage": _percentage, "money": _money, "unit": _unit,
    "ratio": _ratio, "choice": _choice, "words": _words,
    "complex": _complex, "notation": _notation, "system": _system, "scaled": _scaled, "compound": _compound,
}  # fmt: skip
