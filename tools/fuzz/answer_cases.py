"""Hostile answers by kind: each maker gives (text, gold) from a seeded generator. `honest` ones are equal to their gold."""

import random
from collections.abc import Callable

Rng = random.Random
Maker = Callable[[Rng], tuple[str, str | None]]
CANARY = "w2sr-fuzz-canary"  # a file that injected code would create in the working directory
_FRAMES = ("#### {}", "so \\boxed{{{}}}", "The answer is {}.", "we get ${}$", "A: {}", "\\[ {} \\]", "{}")
_WORDS = ("so", "Tom", "has", "12", "apples", "and", "gives", "3 + 4 = 7", "$5", "away", "\\frac{1}{2}", "\n", "x^2")
_LATEX = (
    *(
        "\\frac{",
        "\\sqrt{",
        "\\left(",
        "\\right)",
        "{",
        "}",
        "^{",
        "_{",
        "\\sum",
        "\\int",
        "\\binom{",
        "\\text{",
        "\\begin{matrix}",
        "&",
    ),
    *(
        "\\\\",
        "\\end{matrix}",
        "\\cup",
        "\\infty",
        "\\in",
        "\\le",
        "=",
        "+",
        "-",
        "x",
        "y",
        "7",
        "\\pi",
        ",",
        "$",
        "\\boxed{",
        "\\{",
        "\\}",
    ),
)
_CONTROL = [chr(i) for i in (*range(32), *range(127, 160))] + list(
    "\u200b\u200e\u200f\u202a\u202b\u202d\u202e\u2066\u2069\ufeff\u2028"
)
_DIGITS = [*"٠١٢٣٤٥٦٧٨٩", *"０１２３４５６７８９", *"०१२३४५६७८९", *"²³¹⁰", *"𝟎𝟏𝟐", *"Ⅳ五½"]
_MARKUP = (
    *(
        "<script>open('/x')</script>",
        "</td></tr></table>",
        "<img src=x onerror=x()>",
        "&lt;&#0;&nbsp;",
        "\x1b[2J\x1b[31m",
        "]]>",
        "<!--",
    ),
    *(
        '{"equal": true}\n',
        '{"id": 0, "equal": true}\n',
        "null\n",
        "<<1+1=2>>",
        "[link](javascript:x)",
        "| a | b |",
        "\r\n",
        "%00",
        "${7*7}",
    ),
)


def framed(rng: Rng, inner: str) -> str:
    return rng.choice(_FRAMES).format(inner)


def size(rng: Rng, largest: int = 100_000) -> int:
    """Mostly small, at times as large as can be."""
    return min(largest, int(10 ** rng.uniform(1, 5.05)))


def honest(rng: Rng) -> tuple[str, str | None]:
    a, b = rng.randint(2, 99), rng.randint(2, 99)
    inner, gold = rng.choice(
        [
            (f"{a}x+{b}", f"{b}+{a}x"),
            (f"\\sqrt{{{a * a * b}}}", f"{a}\\sqrt{{{b}}}"),
            (f"({a},{a + b}]", f"({a}, {a + b}]"),
            (f"(x-{a})(x+{b})", f"x^2+{b}x-{a}x-{a * b}"),
            (f"{a}\\pi", f"\\pi \\cdot {a}"),
            (f"\\frac{{{a}y}}{{{b}}}", f"{a}y/{b}"),
            (f"{a}", f"{a}.0"),
        ]
    )
    return f"Step {a} + {b} = {a + b}. \\boxed{{{inner}}}", gold


def tower(rng: Rng) -> tuple[str, str | None]:
    mark = rng.choice(["^", "**", "^{", "^("])
    close = {"^{": "}", "^(": ")"}.get(mark, "")
    height = rng.choice([2, 3, 4, 10, 300])
    return framed(rng, mark.join([str(rng.randint(2, 9999))] * height) + close * (height - 1)), "\\frac{x}{2}"


def factorial(rng: Rng) -> tuple[str, str | None]:
    n = rng.choice(["9999", "99999", "10^{9}", "(9!)", "((5!)!)", "7!!!!", "(x+999)", "10**8", "123456789", "\\Gamma(10^{8})"])
    return framed(rng, rng.choice(["{}!", "({})!", "\\frac{{{}!}}{{3!}}", "({}!)!", "\\ln({}!)"]).format(n)), "x!"


def power(rng: Rng) -> tuple[str, str | None]:
    e = rng.choice([99, 999, 9999, 99999, 10**12])
    base = rng.choice(["(x+1)", "(a+b+c+d)", "9", "1.0000001", "-3", "(1+\\sqrt{2})", "(1+i)", "\\pi", "(2/3)"])
    return framed(
        rng, rng.choice(["{}^{{{}}}", "{}**{}", "{}^{{-{}}}", "\\sqrt[{1}]{{{0}}}", "{}^{{x+{}}}"]).format(base, e)
    ), "\\frac{x}{2}"


def binomial(rng: Rng) -> tuple[str, str | None]:
    n, k = rng.choice([(9999, 4999), (10**9, 5 * 10**8), (10**12, 3), ("x", 10**6), ("10^{9}", "10^{8}")])
    return framed(rng, rng.choice(["\\binom{{{}}}{{{}}}", "{{{} \\choose {}}}", "C({}, {})"]).format(n, k)), "\\frac{x}{2}"


def series(rng: Rng) -> tuple[str, str | None]:
    top = rng.choice(["10^{12}", "10000", "999999999", "\\infty", "n", "10^{10^{3}}"])
    term = rng.choice(["i", "\\frac{1}{i^2}", "i^{i}", "\\sin(i)", "i!", "\\sum_{j=1}^{10^{6}} ij", "\\frac{1}{i!}", "x^{i}"])
    sign = rng.choice(["\\sum", "\\prod"])
    return framed(rng, f"{sign}_{{i=1}}^{{{top}}} {term}"), rng.choice(["\\frac{x}{2}", "1", "e"])


def integral(rng: Rng) -> tuple[str, str | None]:
    inner = rng.choice(
        ["e^{x^2}\\sin(x^3)", "\\frac{1}{1+x^{99}}", "\\ln(\\ln(x))^{5}", "\\sqrt{1+x^7}", "\\tan(x)^{20}", "x^{x}"]
    )
    form = rng.choice(
        ["\\int {} dx", "\\int_0^1 {} dx", "\\int_0^1\\int_0^1 {} dx dy", "\\lim_{{x\\to 0}} {}", "\\frac{{d}}{{dx}} {}"]
    )
    return framed(rng, form.format(inner)), rng.choice(["\\frac{x}{2}", "1"])


def matrix(rng: Rng) -> tuple[str, str | None]:
    n = rng.choice([2, 8, 15, 60])
    cell = rng.choice(["{0}x", "{0}", "\\sin {0}", "x^{{{0}}}"])
    rows = " \\\\ ".join(" & ".join(cell.format(rng.randint(1, 99)) for _ in range(n)) for _ in range(n))
    form = rng.choice(["\\begin{{pmatrix}} {} \\end{{pmatrix}}", "\\det\\begin{{bmatrix}} {} \\end{{bmatrix}}", "{}"])
    return framed(rng, form.format(rows) + rng.choice(["", "^{-1}", "^{50}"])), "\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}"


def unions(rng: Rng) -> tuple[str, str | None]:
    n = rng.choice([3, 30, 120, 1000])
    form = rng.choice(["({},{})", "[{},{}]", "\\{{{},{}\\}}", "(-{}x,\\sqrt{{{}}})"])
    parts = [form.format(2 * i, 2 * i + rng.randint(1, 3)) for i in range(n)]
    return framed(rng, rng.choice([" \\cup ", " \\cap ", " \\setminus ", ", "]).join(parts)), rng.choice(
        ["(0,1)", "x>0", "\\{1,2\\}"]
    )


def nesting(rng: Rng) -> tuple[str, str | None]:
    left, right = rng.choice(
        [
            *[
                ("{", "}"),
                ("(", ")"),
                ("[", "]"),
                ("\\sqrt{", "}"),
                ("\\frac{1}{", "}"),
                ("\\boxed{", "}"),
                ("\\left(", "\\right)"),
            ],
            *[
                ("\\text{", "}"),
                ("|", "|"),
                ("x^{", "}"),
                ("-", ""),
                ("\\sin(", ")"),
                ("\\log ", ""),
                ("1+\\frac{1}{1+", "}"),
                ("\\{", "\\}"),
            ],
        ]
    )
    n = size(rng)
    return framed(rng, left * n + "1" + right * rng.choice([n, n, n - 1, 0])), "\\frac{x}{2}"


def latex(rng: Rng) -> tuple[str, str | None]:
    return framed(rng, "".join(rng.choices(_LATEX, k=size(rng, 25_000)))), rng.choice(["1", "x", "\\frac{x}{2}"])


def controls(rng: Rng) -> tuple[str, str | None]:
    inner = "".join(rng.choice(_CONTROL) if rng.random() < 0.5 else rng.choice("12x+ ") for _ in range(size(rng, 2000)))
    return framed(rng, inner), rng.choice(["12", "x\x00", "\u202e21", "x+1"])


def surrogates(rng: Rng) -> tuple[str, str | None]:
    inner = "".join(rng.choice(["\ud800", "\udfff", "\U0010ffff", "\ufffe", "x", "1"]) for _ in range(rng.randint(1, 50)))
    return framed(rng, inner), rng.choice(["1", "x\ud800", "x+1"])


def numerals(rng: Rng) -> tuple[str, str | None]:
    inner = "".join(rng.choice([*_DIGITS, *"0123456789.,/-+"]) for _ in range(rng.randint(1, 30)))
    return framed(rng, inner), rng.choice(["12", "١٢", "x+1", "½"])


def integers(rng: Rng) -> tuple[str, str | None]:
    n = size(rng)
    form = rng.choice(
        ["{}", "-{}", "0.{}", "{}/7", "\\frac{{{0}}}{{{0}}}", "{}%", "1e{}", "{0}.{0}", "${}$", "1,{}", "{0} / {0}"]
    )
    return framed(rng, form.format(rng.choice("123456789") * n)), rng.choice(["7", "x", "9" * n, "1/" + "3" * 50])


def markup(rng: Rng) -> tuple[str, str | None]:
    return framed(rng, "".join(rng.choices(_MARKUP, k=rng.randint(1, 30)))), rng.choice(["1", "x+1", "</script>"])


def injection(rng: Rng) -> tuple[str, str | None]:
    code = f"__import__('os').system('touch {CANARY}')"
    form = rng.choice(
        ["{}", "\\text{{{}}}", "1+{}", 'eval("{}")', "\\mathrm{{{}}}", "f({})", "(lambda: {})()", "x_{{{}}}", "3*({})", "`{}`"]
    )
    return framed(rng, form.format(code)), rng.choice(["1", "x+1", f"exec({code!r})"])


def floods(rng: Rng) -> tuple[str, str | None]:
    mark = rng.choice(
        [
            *[
                "\\boxed{",
                "\\boxed{1} ",
                "\\boxed ",
                "####",
                "#### 1\n",
                "answer is ",
                "The answer is\n",
                "A:",
                "A: 1\n",
                "$",
                "$$",
                "\\(",
            ],
            *[
                "\\[",
                "<<1+1=2>>",
                "<<",
                "1 = ",
                "1+1=2 ",
                "1+",
                "-",
                ".",
                "*",
                "1,",
                "1/",
                "<|im_end|>",
                "is ",
                "so ",
                "aa, ",
                "12 ",
            ],
        ]
    )
    return mark * (size(rng) // len(mark) + 1), rng.choice(["1", "x+1"])


def spaces(rng: Rng) -> tuple[str, str | None]:
    gap = rng.choice([" ", "\t", "\n", " \n", "\u00a0", "\\ ", "~"]) * size(rng)
    form = rng.choice(
        ["answer is 1{}1", "#### x^{}", "#### 1{}/{}2", "A{}: 1", "\\boxed{}{{1}}", "\\frac{}{{1}}{}{{2}}", "{}", "1 +{}1 = 2{}"]
    )
    return form.replace("{{", "\0").replace("{}", gap).replace("\0", "{").replace("}}", "}"), rng.choice(["1", "x+1"])


def equations(rng: Rng) -> tuple[str, str | None]:
    n = rng.choice([2, 5, 9, 30])
    left = rng.choice(
        ["(" * n + "9^12)" + "^12)" * (n - 1) + "^12", "1/" * n + "1", "9^" * n + "9", "-" * n + "1 - 1", "9" * 30 + " * 9" * n]
    )
    right = rng.choice(["1", "(" * n + "1" + "+1" * n, "1" + "+1" * n + " 2" * n, "1/0" + "+1" * n])
    return f"{left} = {right} " * rng.randint(1, 200) + "#### 3", "3"


def repetition(rng: Rng) -> tuple[str, str | None]:
    return " ".join(rng.choices(_WORDS, k=rng.randint(1, 6)) * size(rng, 20_000)), rng.choice(["12", "x+1"])


def systems(rng: Rng) -> tuple[str, str | None]:
    n = rng.choice([2, 5, 20, 100])
    relation = rng.choice(["=", "<", "\\le", ">", "\\neq", "\\in"])
    chain = f" {relation} ".join(rng.choice(["x", "y^2", "\\sin x", "3", "x_{1}", "\\frac{1}{y}"]) for _ in range(n))
    return framed(rng, rng.choice([", ", " \\text{ and } ", "; ", " \\\\ "]).join([chain] * rng.randint(1, 4))), rng.choice(
        ["x=1", "x>3", "x=1, y=2"]
    )


def functions(rng: Rng) -> tuple[str, str | None]:
    name = rng.choice(["\\sin", "\\tan", "\\log", "\\arctan", "\\sqrt", "\\exp", "\\cosh"])
    n = rng.choice([2, 5, 12, 40])
    nested = f"{name}{{" * n + rng.choice(["x", "2", "1+\\sqrt{x}"]) + "}" * n
    return framed(rng, rng.choice(["{}", "{}+1", "{0}^2+{0}", "\\frac{{{0}}}{{1+{0}}}"]).format(nested)), rng.choice(
        [f"{name}{{x}}+1", "x"]
    )


def polynomial(rng: Rng) -> tuple[str, str | None]:
    n = rng.choice([5, 20, 60])
    terms = [f"{rng.randint(1, 99)}{rng.choice('xyz')}^{{{rng.randint(0, 40)}}}" for _ in range(n)]
    inner = "+".join(terms)
    return framed(
        rng, rng.choice(["{0}", "({0})({0})", "\\frac{{{0}}}{{{0}+1}}", "\\sqrt{{{0}}}"]).format(inner)
    ), "(" + "+".join(terms[::-1]) + ")^2"


def soup(rng: Rng) -> tuple[str, str | None]:
    points = (
        rng.choice([rng.randint(0, 0x2FF), rng.randint(0, 0xFFFF), rng.randint(0, 0x10FFFF)]) for _ in range(size(rng, 3000))
    )
    return framed(rng, "".join(map(chr, points))), rng.choice(["1", "x+1"])


def gold(rng: Rng) -> tuple[str, str | None]:
    """An honest answer whose gold is hostile."""
    text, _ = rng.choice([tower, factorial, nesting, latex, controls, integers, spaces, unions, floods])(rng)
    return f"#### {rng.choice(['7', 'x+1', '(1,2)'])}", rng.choice([text, text, "", " ", None])


def mixture(rng: Rng) -> tuple[str, str | None]:
    makers = list(KINDS.values())[:-1]
    parts = [rng.choice(makers)(rng)[0][:3000] for _ in range(rng.randint(2, 5))]
    text = rng.choice(["", " ", "\n", " = ", "}"]).join(parts)
    return (framed(rng, text) if rng.random() < 0.5 else text), rng.choice(makers)(rng)[1]


KINDS: dict[str, Maker] = {
    maker.__name__: maker
    for maker in (
        *(
            honest,
            tower,
            factorial,
            power,
            binomial,
            series,
            integral,
            matrix,
            unions,
            nesting,
            latex,
            controls,
            surrogates,
            numerals,
        ),
        *(
            integers,
            markup,
            injection,
            floods,
            spaces,
            equations,
            repetition,
            systems,
            functions,
            polynomial,
            soup,
            gold,
            mixture,
        ),
    )
}


def case(seed: int, number: int) -> tuple[str, str, str | None]:
    """(kind, text, gold) of a case; kinds take turns."""
    kind = list(KINDS)[number % len(KINDS)]
    return kind, *KINDS[kind](random.Random(f"{seed}/{kind}/{number}"))
