"""Questions, the dresses in which copies of them turn up, and questions that are nearly the same and yet others."""

import unicodedata
from collections.abc import Iterator

STORY = (
    "Nadia rents 18 bicycles for $2,400 and lends every bicycle to 4 visitors of her campsite for $75 each. "
    "How much profit does Nadia make by the end of the summer?"
)
SHORT = "Omar has 15 marbles and loses 6 of them. How many marbles are left?"
FORMULA = r"Let $f(x) = \frac{x^2 - 9}{\sqrt{x + 1}}$ for $x \geq 0$. What is the value of $f(8) \cdot \left(3 + \pi\right)$?"
GEOMETRY = r"In triangle $ABC$, angle $A$ is $35^\circ$ and angle $B$ is $70^{\circ}$. Find the degree measure of angle $C$."
CHINESE = "小红买了12本练习册，每本5元，然后她又买了3盒彩笔，每盒16元。请问小红一共花了多少钱？"
FRENCH = (
    "Élodie achète 12 pâtisseries à la boulangerie près de l’hôtel, puis elle en mange 2 et en offre 4 à Noël. "
    "Combien de pâtisseries reste-t-il à Élodie ?"
)
GERMAN = (
    "Jürgen kauft 16 Äpfel für 8 Euro auf dem Markt und verschenkt später 5 davon an seine größte Schwester. "
    "Wie viele Äpfel bleiben übrig?"
)
CHOICE = "A train covers 180 miles in 3 hours at a constant speed. At that speed, how many miles does it cover in 7 hours?"
OPTIONS = ("360", "400", "420", "540")

ENGLISH = (STORY, SHORT, FORMULA, GEOMETRY, CHOICE)
BASES = (*ENGLISH, CHINESE, FRENCH, GERMAN)

ANY = (
    "7. {}",
    "7) {}",
    "(a) {}",
    "(12) {}",
    "[3] {}",
    "{}\n",
    "  {}  ",
    "**{}**",
    "> {}",
    "<p>{}</p>",
    "\u200b{}\ufeff",
    "{} ____",
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
    "[INST] {} [/INST]",
)
IN_ENGLISH = (
    "Problem 7. {}",
    "Problem 7\n{}",
    "Problem #12: {}",
    "PROBLEM 3 - {}",
    "Q3: {}",
    "Q: {}\nA:",
    "Q. {}",
    "Question 4 of 20: {}",
    "**Question:** {}",
    "### Question\n{}\n\n### Answer\n",
    "Exercise 2.3 {}",
    "Example 2.3.1: {}",
    "No. 5: {}",
    "#5 {}",
    "Task 9) {}",
    "① {}",
    "Problem 7 (5 points): {}",
    "(5 points) {}",
    "{} (5 points)",
    "{} [10 marks]",
    "{} (Worth 3 pts.)",
    "Please solve this problem: {}",
    "Solve the following math problem step by step.\n\n{}",
    "Answer the following question.\n{}",
    "{} Let's think step by step.",
    "{}\nPlease reason step by step, and put your final answer within \\boxed{{}}.",
    "{} Show your work and explain your reasoning.",
    "{}\nGive your final answer as a single number.",
    "{} Answer:",
    "{}\n\nSolution:",
    "Here is a math problem for you: {}",
    "You are a helpful assistant. {}",
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{}\n\n### Response: Let's think step by step.",
    "User: {}\nAssistant:",
)
IN_CHINESE = (
    "例3 {}",
    "第5题 {}",
    "【例3】{}",
    "题目：{}",
    "5、{}",
    "{}（5分）",
    "（本题10分）{}",
    "请解答下列问题：{}",
    "{}请一步一步思考，并将最终答案放在\\boxed{{}}中。",
    "{}\n答案：",
)
IN_FRENCH = ("Exercice 4 : {}", "Question 2. {}", "{} (3 points)", "Résolvez le problème suivant : {}", "{}\nRéponse :")
IN_GERMAN = ("Aufgabe 4: {}", "Übung 2.1 {}", "{} (4 Punkte)", "Löse die folgende Aufgabe: {}", "{}\nAntwort:")


def wide(text: str) -> str:
    return "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in text)


def wide_digits(text: str) -> str:
    return "".join(chr(ord(char) + 0xFEE0) if char.isascii() and char.isdigit() else char for char in text)


def _rewritten(base: str) -> Iterator[tuple[str, str]]:
    yield "NFD", unicodedata.normalize("NFD", base)
    yield "upper case", base.upper() if "\\" not in base else base
    yield "lines", base.replace(" ", "\n", 3).replace(". ", ".\n\n")
    yield "wide digits", wide_digits(base)
    yield "spaces", base.replace(" ", "   ").replace(". ", ".\u3000").replace("  ", "\u00a0 ")
    yield "soft hyphens", base.replace("ng", "n\u00adg").replace("的", "\u200b的")


def _rewritten_story() -> Iterator[tuple[str, str]]:
    for old, new in (
        ("2,400", "2400"),
        ("2,400", "2 400"),
        ("2,400", "2\u202f400"),
        ("2,400", "2'400"),
        ("$2,400", "2{,}400 dollars"),
        ("$2,400", "$2,400.00"),
        ("$2,400", "\\$2{,}400"),
        ("$2,400", "US$ 2,400"),
        ("$2,400", "€2,400"),
        ("18", "eighteen"),
        (" 4 visitors", " four visitors"),
        ("Nadia rents", "Nadia – rents"),
        (". How", "; how"),
        (". How", "! How"),
        ("18 bicycles", "$18$ bicycles"),
        ("18 bicycles", "**18** bicycles"),
        ("18 bicycles", "<b>18</b>&nbsp;bicycles"),
        ("bicycles for", "bi-\ncycles for"),
        ("her campsite", "“her campsite”"),
        ("summer?", "summer"),
        ("summer?", "summer?\n(A) $3,000\n(B) $3,200\n(C) $5,400"),
        ("profit", "proﬁt"),
    ):
        yield f"{old} → {new}", STORY.replace(old, new)
    yield "wide", wide(STORY)
    yield "a typing error", STORY.replace("summer", "sumer")


def _rewritten_mathematics() -> Iterator[tuple[str, str]]:
    for old, new in (
        (r"\frac", r"\dfrac"),
        (r"\left(3 + \pi\right)", r"(3+\pi)"),
        (r"\geq", r"\ge"),
        (r"\geq", "≥"),
        (r"\pi", "π"),
        ("x^2", "x^{2}"),
        ("x^2", "x²"),
        ("$", ""),
        (r"\sqrt{x + 1}", r"\sqrt{x+1}"),
        (r"$f(x) = \frac{x^2 - 9}{\sqrt{x + 1}}$", r"\[f(x)=\frac{x^{2}-9}{\sqrt{x+1}}\]"),
        (r"$f(x) = \frac{x^2 - 9}{\sqrt{x + 1}}$", "f(x) = (x² − 9)/√(x + 1)"),
        (r"\cdot", r"\times"),
        (r"\cdot", "·"),
        ("What is the value of", "Compute"),
        ("What is the value of", "Find"),
    ):
        yield f"{old} → {new}", FORMULA.replace(old, new)
    for old, new in (
        (r"^\circ", "°"),
        (r"$35^\circ$", "35 degrees"),
        ("$ABC$", r"$\triangle ABC$"),
        (r"angle $A$", r"$\angle A$"),
    ):
        yield f"{old} → {new}", GEOMETRY.replace(old, new).replace("triangle $\\triangle", "$\\triangle")
    yield "options", f"{CHOICE}\n\n" + "\n".join(f"{letter}) {value}" for letter, value in zip("ABCD", OPTIONS))
    yield "options in a line", CHOICE + "".join(f" ({letter}) {value}" for letter, value in zip("ABCD", OPTIONS))
    yield "LaTeX options", CHOICE + r" $\textbf{(A) }360\qquad\textbf{(B) }400\qquad\textbf{(C) }420\qquad\textbf{(D) }540$"


def copies() -> list[tuple[str, str, str]]:
    """(question, copy, what was done to it)."""
    pairs = []
    for dress in ANY:
        pairs += [(base, dress.format(base), dress) for base in BASES]
    for dresses, bases in (
        (IN_ENGLISH, ENGLISH),
        (IN_CHINESE, (CHINESE,)),
        (IN_FRENCH, (FRENCH,)),
        (IN_GERMAN, (GERMAN,)),
    ):
        pairs += [(base, dress.format(base), dress) for dress in dresses for base in bases]
    for base in BASES:
        pairs += [(base, copy, what) for what, copy in _rewritten(base)]
    pairs += [(STORY, copy, what) for what, copy in _rewritten_story()]
    for what, copy in _rewritten_mathematics():
        base = GEOMETRY if "angle" in copy else CHOICE if "train" in copy else FORMULA
        pairs.append((base, copy, what))
    for old, new in (("，", ","), ("。", "."), ("？", "?"), ("，", "， "), ("12本", "12 本"), ("12", "十二"), ("请问", "")):
        pairs.append((CHINESE, CHINESE.replace(old, new), f"{old} → {new}"))
    pairs.append((FRENCH, FRENCH.replace("’", "'").replace(" ?", "?"), "apostrophes"))
    pairs.append((FRENCH, "".join(c for c in unicodedata.normalize("NFD", FRENCH) if not unicodedata.combining(c)), "no accents"))
    pairs.append((GERMAN, GERMAN.replace("größte", "GRÖSSTE"), "ß"))
    return [(base, copy, what) for base, copy, what in dict.fromkeys(pairs) if copy != base]


CLUBS = (
    "Of the 120 pupils of a school 45 play chess and 30 play tennis. How many pupils play chess if 12 of them play both games?"
)
READER = (
    "Lena reads 24 pages of her book every day, except on Sundays when she reads 40 pages. Her brother Paul reads 10 pages fewer "
    "than Lena every day. How many pages does Lena read in 2 weeks?"
)
DRIVE = (
    "A car travels from Town A to Town B at 60 km/h and returns along the same road at 40 km/h. The towns are 120 km apart. "
    "What is the average speed of the car for the whole journey?"
)
RECTANGLE = (
    r"In rectangle $ABCD$, $AB = 6$ and $BC = 8$. Point $E$ is the midpoint of side $CD$. Find the area of triangle $ABE$."
)

NEAR_MISSES = [
    # other numbers
    (STORY, STORY.replace("18", "19")),
    (STORY, STORY.replace("2,400", "2,500")),
    (STORY, STORY.replace("2,400", "24,00")),
    (STORY, STORY.replace("2,400", "2.4")),
    (STORY, STORY.replace(" 4 ", " 5 ")),
    (STORY, "Problem 7. " + STORY.replace("75", "57")),
    (STORY, STORY.replace("18", "eighty")),
    (SHORT, SHORT.replace("6", "7")),
    (CHINESE, CHINESE.replace("12", "21")),
    (CHINESE, CHINESE.replace("5元", "6元")),
    (FRENCH, FRENCH.replace("12", "13")),
    (GERMAN, GERMAN.replace("16", "61")),
    (CHOICE, CHOICE.replace("7 hours", "8 hours")),
    ("What is 1.5 times 8?", "What is 15 times 8?"),
    ("What is 3.05 times 8?", "What is 3.5 times 8?"),
    ("Find the sum of 12 and 30.", "Find the sum of 123 and 0."),
    # another question about the same story
    (STORY, STORY.replace("How much profit does Nadia make", "How much money do the visitors pay her")),
    (STORY, STORY.replace("How much profit does Nadia make by the end of the summer?", "How many visitors get a bicycle?")),
    (STORY, STORY.replace("profit", "revenue")),
    (STORY, STORY.replace("How much profit does Nadia make", "What percent profit does Nadia make")),
    (SHORT, SHORT.replace("How many marbles are left", "How many marbles does he lose")),
    (CHINESE, CHINESE.replace("请问小红一共花了多少钱", "请问彩笔比练习册贵多少钱")),
    (CHINESE, CHINESE.replace("一共花了多少钱", "还剩多少钱")),
    (FRENCH, FRENCH.replace("Combien de pâtisseries reste-t-il à Élodie", "Combien de pâtisseries Élodie a-t-elle mangées")),
    (GERMAN, GERMAN.replace("Wie viele Äpfel bleiben übrig", "Wie viel kostet ein Apfel")),
    (CHOICE, CHOICE.replace("how many miles does it cover in 7 hours", "how many hours does it need for 7 miles")),
    (GEOMETRY, GEOMETRY.replace("angle $C$", "the exterior angle at $C$")),
    (READER, READER.replace("does Lena read", "does Paul read")),
    (READER, READER.replace("does Lena read", "do they read together")),
    (READER, READER.replace("2 weeks", "2 days")),
    (DRIVE, DRIVE.replace("average speed", "total time")),
    (DRIVE, DRIVE.replace("whole journey", "way back")),
    (RECTANGLE, RECTANGLE.replace("area", "perimeter")),
    (RECTANGLE, RECTANGLE.replace("triangle $ABE$", "triangle $ADE$")),
    (RECTANGLE, RECTANGLE.replace("$AB = 6$ and $BC = 8$", "$AB = 8$ and $BC = 6$")),
    # other operations, amounts and relations
    (STORY, STORY.replace("lends every bicycle", "lends every second bicycle")),
    (STORY, STORY.replace("lends every bicycle", "lends half of the bicycles")),
    (STORY, STORY.replace("rents", "sells").replace("lends", "buys")),
    (STORY, STORY.replace("for $75 each", "for $75 in all")),
    (SHORT, SHORT.replace("loses 6 of them", "finds 6 more")),
    (SHORT, SHORT.replace("loses", "doubles")),
    (CHINESE, CHINESE.replace("买了3盒", "卖了3盒")),
    (FRENCH, FRENCH.replace("en offre 4 à", "en reçoit 4 de")),
    (GERMAN, GERMAN.replace("verschenkt später 5 davon an", "bekommt später 5 weitere von")),
    ("Ann is 3 years older than Ben, who is 12. How old is Ann?", "Ann is 3 years younger than Ben, who is 12. How old is Ann?"),
    (
        "Tom has twice as many cards as Eva. Eva has 40. How many has Tom?",
        "Tom has half as many cards as Eva. Eva has 40. How many has Tom?",
    ),
    (
        "Tom gives Eva 4 of his 30 cards. How many cards does Tom have now?",
        "Eva gives Tom 4 of her 30 cards. How many cards does Tom have now?",
    ),
    (
        "A bag holds 5 red and 8 blue balls. Two balls are drawn with replacement. Find the probability that both are red.",
        "A bag holds 5 red and 8 blue balls. Two balls are drawn without replacement. Find the probability that both are red.",
    ),
    (
        "A bag holds 5 red and 8 blue balls. Two balls are drawn with replacement. Find the probability that both are red.",
        "A bag holds 5 red and 8 blue balls. Two balls are drawn with replacement. Find the probability that both are blue.",
    ),
    (
        "In how many ways can 6 distinguishable balls be put into 3 boxes that all look the same to everybody in the room?",
        "In how many ways can 6 indistinguishable balls be put into 3 boxes that all look the same to everybody in the room?",
    ),
    ("The price of 60 is increased by 15%. What is it now?", "The price of 60 is decreased by 15%. What is it now?"),
    ("Find the area of a rectangle with sides 6 and 9.", "Find the perimeter of a rectangle with sides 6 and 9."),
    ("What is the largest prime factor of 84?", "What is the smallest prime factor of 84?"),
    ("How many even numbers are there between 10 and 99?", "How many odd numbers are there between 10 and 99?"),
    # negation
    ("Is 91 a prime number?", "Is 91 not a prime number?"),
    (CLUBS, CLUBS.replace("play chess if", "do not play chess if")),
    (
        "Which of these numbers is divisible by 7: 21, 34, 35, 41?",
        "Which of these numbers is not divisible by 7: 21, 34, 35, 41?",
    ),
    ("小明有8个苹果，他吃了3个，他还有苹果吗？", "小明有8个苹果，他没吃3个，他还有苹果吗？"),
    # signs and formulas
    ("Solve $x + 2 = 7$.", "Solve $x - 2 = 7$."),
    ("Solve $x + 2 < 7$.", "Solve $x + 2 > 7$."),
    ("Solve $x + 2 < 7$.", r"Solve $x + 2 \le 7$."),
    ("Compute $2 + 3$.", "Compute $2 - 3$."),
    ("Compute $2^3$.", "Compute $23$."),
    ("Compute 2³.", "Compute 23."),
    ("Compute $2 \\cdot 3$.", "Compute $2 + 3$."),
    ("What is 6 - 4?", "What is 6 / 4?"),
    ("Simplify p ∧ q ∧ p.", "Simplify p ∨ q ∨ p."),
    (r"Simplify $p \wedge q$.", r"Simplify $p \vee q$."),
    ("Find the chance of a ♥ and then a ♣.", "Find the chance of a ♠ and then a ♣."),
    ("How many 🍎 are there?\n🍎🍎", "What are these? 🍎🍎"),
    ("🍎🍎", "🍌🍌"),
    ("What is -5 + 8?", "What is 5 + 8?"),
    ("Compute $5! + 2$.", "Compute $5 + 2$."),
    ("Find $f'(2)$ for $f(x) = x^3$.", "Find $f(2)$ for $f(x) = x^3$."),
    ("Compute $2(3 + 4)$.", "Compute $2 \\cdot 3 + 4$."),
    ("Compute $x^{n+1}$ for $x = n = 2$.", "Compute $x^n + 1$ for $x = n = 2$."),
    ("Evaluate $|-4|$.", "Evaluate $-4$."),
    ("Find the length of the interval $[0, 1)$.", "Is 1 in the interval $[0, 1)$?"),
    ("Which numbers are in $[0, 1]$?", "Which numbers are in $(0, 1)$?"),
    (FORMULA, FORMULA.replace("x^2 - 9", "x^2 + 9")),
    (FORMULA, FORMULA.replace("x^2", "x^3")),
    (FORMULA, FORMULA.replace(r"\geq", r"\leq")),
    (FORMULA, FORMULA.replace(r"\sqrt{x + 1}", r"x + 1")),
    (FORMULA, FORMULA.replace(r"\frac{x^2 - 9}{\sqrt{x + 1}}", r"\frac{\sqrt{x + 1}}{x^2 - 9}")),
    (FORMULA, FORMULA.replace(r"\pi", "e")),
    (r"Simplify $\frac{63}{18}$.", r"Simplify $\frac{48}{18}$."),
    (r"Compute $\sin 30^\circ$.", r"Compute $\cos 30^\circ$."),
    (r"Find $E(2020, 1993)$.", r"Find $E(2001, 501)$."),
    ("Give your answer as a percentage: 0.75", "Give your answer as a common fraction: 0.75"),
    # short questions, options, drawings
    ("How many marbles are left?", "How many apples are left?"),
    ("What is the answer?", "What is the question?"),
    ("Which of these is prime?\n(A) 4\n(B) 5\n(C) 6", "Which of these is prime?\n(A) 7\n(B) 8\n(C) 9"),
    (
        "What is the area of the figure? [asy]draw((0,0)--(2,0));[/asy]",
        "What is the area of the figure? [asy]draw((0,0)--(3,1));[/asy]",
    ),
    ("What is the area of the figure? [asy]draw((0,0)--(2,0));[/asy]", "What is the area of the figure?"),
    # other names, which count where they are asked for
    (STORY, STORY.replace("Nadia", "Priya")),
    (READER, READER.replace("Lena", "Mia").replace("Paul", "Otto")),
]
