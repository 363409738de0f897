"""Labels, points, sources and blanks before or behind a question, in plain text (`plaintext.plain`)."""

import re

_LABEL_WORDS = (
    "problem|question|exercise|example|task|prob|ques|ex|puzzle|item|query|input|prompt|instruction|instructions"
    "|user|human|math problem"
    "|math question|word problem|test question|the problem|the question|problem statement|statement|aufgabe"
    "|textaufgabe|frage|ubung"
    "|beispiel|exercice|probleme|enonce|exemple|ejercicio|problema|pregunta|ejemplo|esercizio|domanda|quesito"
    "|exercicio|questao|pergunta"
    "|opgave|vraag|zadanie|задача|задание|вопрос|упражнение|пример|bai|bai toan|cau|cau hoi|soal|pertanyaan|soru"
)
_CJK_LABELS = "例题|例題|例|题目|問題|问题|题|問|习题|練習|练习|문제|예제|질문"
_SECTION = (
    r"(?:(?:homework|hw|assignment|practice|review|bonus|chapter|section|ch|sec|unit|lesson|quiz|test|exam|worksheet"
    r"|set|level|round|day|week"
    r"|page|part|grade|sample|kapitel|chapitre|capitulo)\s*\d{0,4}(?:\.\d{1,3})*\s*[,:;.\-]?\s*)"
)
_NUMERAL = (
    r"(?:(?:one|two|three|four|five|six|seven|eight|nine|ten)\b"
    r"|\d{1,4}(?:\.\d{1,3}){0,3}|[ivxIVX]{1,5}|[a-zA-Z]|\d{1,4}\s?[a-zA-Z])"
)
_LABEL = re.compile(
    "(?:"
    + "|".join(
        f"(?:{pattern})"
        for pattern in (
            rf"{_SECTION}{{1,2}}(?={_LABEL_WORDS}|q)|(?:part|section)\s*\(?[a-h\d]\)?\s*[:.)\-]*\s+(?=(?-i:[A-Z]))",
            # Problem 7. / Q3: / Exercise 2.3 / Aufgabe 4: / Question: / Problem #12 / Question No. 5
            rf"(?:{_LABEL_WORDS}|q|qn|qs|p)\s*(?:(?:number|no|nr|num|№|n°)?\.?\s*#?\s*{_NUMERAL}\s*(?:of\s+\d+"
            rf"|/\s*\d+)?\s*[:.)\]\-]+(?:\s+|(?=[^\s\d]))"
            rf"|(?:number|no|nr|num)?\.?\s*#?\s*\d{{1,4}}(?:\.\d{{1,3}})*\s*(?:of\s+\d+|/\s*\d+)?\s*"
            rf"(?:[:.)\]\-]+|\n|(?=\s*[(\[])|(?<=\s)(?=(?-i:[A-Z]))))",
            rf"(?:{_LABEL_WORDS}|q)\s*(?:[:\]]+|-+\s|\n)\s*|q\s*\.\s+",
            # 例3 / 第5题 / 題目： / 問1 / 문제 3.
            r"第\s*[\d零一二三四五六七八九十百]+\s*[题題问問道小]*\s*[:.,)\]]*\s*",
            rf"(?:{_CJK_LABELS})\s*(?:[\d零一二三四五六七八九十]+(?:[.\-]\d+)*)\s*[:.,)\]]*\s*",
            rf"(?:{_CJK_LABELS})\s*[:\])]\s*",
            rf"[(\[]\s*(?:{_LABEL_WORDS}|{_CJK_LABELS}|q)\s*(?:no\.?\s*"
            rf"|#\s*)?[\d零一二三四五六七八九十]{{0,4}}(?:\.\d{{1,3}})*\s*[)\]]\s*[:.]?\s*",
            # 7) / 7. / (7) / [7] / #7 / No. 7 / 7: Word
            r"[(\[]\s*(?:\d{1,3}[a-z]?|[ivx]{1,4}|[a-h])\s*[)\]]\s*[:.]?\s*(?=\S)",
            r"#\s*\d{1,4}\s*[:.)\-]?\s+",
            r"(?:no|nr|№|n°)\.?\s*\d{1,4}\s*[:.)\-]\s*",
            r"\d{1,3}[a-z]?\s*\.?[)\]]\s*(?=\S)",
            r"\d{1,3}\s*\([a-h]\)\s*[:.]?\s*|\d{1,3}\s*\n|\d{1,3}\s*번\s*[:.)]*\s*",
            r"[(]?[一二三四五六七八九十]{1,3}\s*[,.)]\s*",
            # Day 3: / Warm-up 12:
            r"(?:[^\W\d_][^\W\d_-]{0,19}\s+){1,3}\d{1,4}(?:\.\d{1,3})*\s*:\s+(?=[^\W\d_])",
            r"\d{1,4}[a-z]?\s*\.\s+(?=\S)",
            r"\d{1,3}\.(?=[^\W\d_])",
            r"\d{1,3}\s*:\s+(?=[^\W\d_])",
            r"\d{1,3}(?:[.\-]\d{1,3}){1,3}\s*[:.)]\s+(?=[^\W\d_])",
            r"\d{1,3}\s*,\s*(?=[\u4e00-\u9fff])",
            r"(?:[b-h]|[ivx]{1,4})\s*[.]\s+(?=(?-i:[A-Z\d]))",
            r"\d{1,3}(?:\.\d{1,3}){2,3}\s+",
            r"(?:[a-h]|[ivx]{1,4})\s*\)\s*(?=\S)",
        )
    )
    + r")(?!\s*[-+*/^=<>≤≥≠])",
    re.I,
)
_WORTH = r"(?:points?|pts?|marks?|mks?|credits?|分|点|점|puntos?|punti|punto|pontos?|punkte?n?|балл\w*|очк\w*|poin)"
_POINTS = re.compile(
    rf"[(\[{{]\s*(?:worth\s*:?\s*|本小?题|本題|满分|配点|배점|total\s*:?\s*"
    rf"|max\.?\s*)*\d{{1,3}}(?:\.\d)?\s*{_WORTH}\.?\s*(?:each|total|max)?\s*[)\]}}]"
    rf"|[(\[]\s*(?:points|marks|score|分值)\s*[:=]\s*\d{{1,3}}\s*[)\]]",
    re.I,
)
_LOOSE_POINTS = re.compile(
    rf"(?:this (?:question|problem) is )?(?:worth )?\d{{1,3}}\s*{_WORTH}\.?|{_WORTH}\s*[:=]\s*\d{{1,3}}\.?", re.I
)
_BARE_POINTS = re.compile(r"(?<=[.?!])\s*(?:[(\[]\s*\d{1,2}\s*[)\]]|/\s?\d{1,2})$")
_SOURCE = re.compile(
    r"[(\[]\s*(?:(?:19|20)\d\d\b[^()\[\]\n]{0,40}[^\W\d_]{3}[^()\[\]\n]{0,40}|[^()\[\]\n]{0,40}\b(?:AMC|AIME|AHSME"
    r"|HMMT|IMO|USAMO|MATHCOUNTS|PUMaC|CMIMC|SMT|BMT|GSM8K"
    r"|Putnam|Olympiad)\b[^()\[\]\n]{0,60}|source\s*:[^()\[\]\n]{1,80})[)\]]",
    re.I,
)
_TAIL_LABEL = re.compile(
    r"(?:\n|^|(?<=[.?!:]) ?)\s*(?:answer|final answer|the answer is|your answer|solution|response|output|assistant|a"
    r"|ans|sol|reasoning"
    r"|step by step|explanation|reponse|solution|antwort|losung|respuesta|solucion|risposta|soluzione|resposta"
    r"|solucao|ответ|решение"
    r"|答案|解答|解|答|答え|回答|정답|답|풀이|dap an|jawaban|cevap)\s*(?::+\s*[_.\s]*|[_]{2,}\s*)$",
    re.I,
)
_BLANK = re.compile(r"\s*_{2,}[\s_.]*$|\(\s*\)\s*[.]?$")
_SHORT = 40  # characters within which points or a blank are


def head(text: str, begin: int, end: int) -> int:
    """Where the label, the points or the source end with which the text begins at `begin`; `begin` where there are none."""
    if match := _LABEL.match(text, begin, end):
        return match.end()
    if text[begin : begin + 1] in ("(", "[", "{"):
        for pattern in (_POINTS, _SOURCE):
            if match := pattern.match(text, begin, end):
                return match.end()
    match = _LOOSE_POINTS.match(text, begin, end)
    if match and (match.group().endswith(".") or text[match.end() : match.end() + 1] in ("\n", ":")):
        return match.end()
    return begin


def tail(part: str) -> int:
    """The length of a text without the points, the blank, the source or the label of an answer at its end."""
    if part[-1:] in (":", "_", ".") and (match := _TAIL_LABEL.search(part)):
        return match.start()
    last = part[-_SHORT:]
    if match := (_BLANK.search(last) if part[-1:] in ("_", ".", ")") else None) or _BARE_POINTS.search(last):
        return len(part) - len(last) + match.start()
    bare = part.rstrip("?")
    if bare and bare[-1] in " \n=":
        return len(bare.rstrip(" \n="))
    at = bracket(part)
    for pattern in (_POINTS, _SOURCE):
        match = pattern.match(part, at) if at > 0 and (pattern is _POINTS or part[at - 1].isspace()) else None
        if match and not part[match.end() :].strip("."):
            return at
    return len(part)


def bracket(part: str) -> int:
    """Where the parenthesis at the end of a text begins; -1 where the text ends otherwise."""
    return max(part.rfind("("), part.rfind("[")) if part.endswith((")", "]", ").", "].")) else -1


def points(sentence: str) -> bool:
    """Whether a sentence says how many points a question is worth."""
    return _LOOSE_POINTS.fullmatch(sentence) is not None
