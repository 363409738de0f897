"""The words with which texts of some twenty languages state an answer."""

import re
from collections.abc import Iterator
from typing import NamedTuple


class Words(NamedTuple):
    """How one language states an answer. Each text that does so has one of `hints` in it, in lower case, so that other texts need
    not be searched. The rest are regular expressions: `labels` are written before a colon at the beginning of a line (`Answer:
    12`), one of `nouns` with one of `verbs` in a sentence (`The answer is 12`). Where a script has no spaces between words,
    `nouns` are whole cues."""

    hints: tuple[str, ...]
    labels: str
    nouns: str
    verbs: str


SPACED = {
    "English": Words(
        ("answer", "solution", "result"),
        r"(?:final\s+|correct\s+)?(?:answer|ans)",
        r"answers?|solutions?|result",
        r"is|are|was|will[ \t]+be|would[ \t]+be|must[ \t]+be|should[ \t]+be|becomes|equals|comes[ \t]+(?:out[ \t]+)?to"
        r"|turns[ \t]+out[ \t]+to[ \t]+be|works[ \t]+out[ \t]+to",
    ),
    "German": Words(
        ("antwort", "lösung", "ergebnis"),
        r"(?:endgültige\s+)?antwort",
        r"antwort|lösung|ergebnis",
        r"ist|sind|lautet|beträgt|wäre",
    ),
    "French": Words(
        ("réponse", "reponse", "solution", "résultat"),
        r"(?:réponse|reponse)(?:\s+finale)?",
        r"réponse|reponse|solution|résultat",
        r"est|sont|vaut",
    ),
    "Spanish": Words(
        ("respuesta", "solución", "resultado"), r"respuesta(?:\s+final)?", r"respuesta|solución|resultado", r"es|son|sería"
    ),
    "Portuguese": Words(
        ("resposta", "solução", "resultado"), r"resposta(?:\s+final)?", r"resposta|solução|resultado", r"é|são|será"
    ),
    "Italian": Words(
        ("risposta", "soluzione", "risultato"), r"risposta(?:\s+finale)?", r"risposta|soluzione|risultato", r"è|sono"
    ),
    "Dutch": Words(("antwoord", "oplossing"), r"antwoord", r"antwoord|oplossing", r"is|luidt"),
    "Russian": Words(
        ("ответ", "решени", "результат"),
        r"(?:окончательный\s+)?ответ",
        r"ответ(?:ом)?|решени(?:е|ем)|результат",
        r"равен|равно|является|будет|составляет|это",
    ),
    "Ukrainian": Words(("відповід",), r"відповідь", r"відповідь|відповіддю", r"є|дорівнює"),
    "Polish": Words(("odpowied", "wynik"), r"odpowiedź", r"odpowiedź|odpowiedzią|wynik", r"to|jest|wynosi"),
    "Indonesian": Words(("jawaban",), r"jawaban(?:nya)?", r"jawaban(?:nya)?", r"adalah|ialah"),
    "Turkish": Words(("cevap", "yanıt", "sonuç"), r"cevap|yanıt", r"cevap|yanıt|sonuç", r"olarak"),
    "Vietnamese": Words(("đáp", "kết", "câu"), r"đáp\s+(?:án|số)|kết\s+quả", r"đáp\s+(?:án|số)|kết\s+quả|câu\s+trả\s+lời", r"là"),
    "Arabic": Words(("الجواب", "الإجابة"), r"الإجابة(?:\s+النهائية)?|الجواب", r"الجواب|الإجابة(?:\s+النهائية)?", r"هو|هي"),
    "Swedish, Norwegian, Danish": Words(("svar", "løsning", "lösning"), r"svar", r"svaret|løsningen|lösningen", r"är|er"),
    "Finnish": Words(("vastaus",), r"vastaus", r"vastaus", r"on"),
}

UNSPACED = {
    "Chinese": Words(
        ("答案", "结果"),
        r"(?:最终|最終)?的?答案|故?答案|答",
        r"答案(?:应该?|應該?|就|便)?(?:是|为|為|等于|等於|[:：])|正确(?:的)?答案(?:是|为)|结果(?:是|为|等于)",
        "",
    ),
    "Japanese": Words(
        ("結果", "答", "正解"), r"正解|解答|答え?", r"結果は|答え?[:：]|(?:最終的な)?(?:答え|解答|正解|回答)(?:は|が)[、,]?", ""
    ),
    "Korean": Words(
        ("답",), r"최종\s*답|정답|답", r"(?:최종\s*)?(?:정답|답|해답)(?:은|는|이|을)[ \t]*|(?:정답|답)[ \t]*[:：]", ""
    ),
    "Hindi": Words(("उत्तर",), r"उत्तर", r"उत्तर[^।\n]{0,20}?(?=[\d$\\])", ""),
    "Thai": Words(("คำตอบ",), r"คำตอบ", r"คำตอบ[^\n]{0,20}?(?:คือ|เท่ากับ)", ""),
}

LABELS = "|".join(words.labels for words in (*SPACED.values(), *UNSPACED.values()))

_GAP = r"[^.\n:：=?!]{0,60}?"
_CUES = (
    *(
        (words.hints, re.compile(rf"\b(?:{words.nouns})\b(?:{_GAP}\b(?:{words.verbs})(?!\w)|[ \t]*[:：=])", re.I))
        for words in SPACED.values()
    ),
    *((words.hints, re.compile(words.nouns, re.I)) for words in UNSPACED.values()),
    (
        ("antwort", "ergebnis", "lösung"),
        re.compile(
            r"\b(?:ist|lautet|beträgt)\s+(?:\w+\s+)?(?:die|das|unsere)\s+(?:endgültige\s+|richtige\s+|gesuchte\s+)?"
            r"(?:antwort|ergebnis|lösung)\b(?:\s+(?:somit|also|daher))?\s*[:：]?",
            re.I,
        ),
    ),
    (("antwoord",), re.compile(r"\bis\s+(?:dus\s+)?het\s+(?:juiste\s+)?antwoord\b\s*:?", re.I)),
    (("answer",), re.compile(r"\b(?:an|a[ \t]+final|the[ \t]+final|our)[ \t]+(?:final[ \t]+)?answer[ \t]+of\b", re.I)),
    (("ответ", "результат"), re.compile(r"\b(?:ответ(?:ом)?|результат)\b[^.\n:：=?!]{0,20}?[—–-](?=\s)", re.I)),
)


_ASCII_CUES = tuple((hints, pattern) for hints, pattern in _CUES if any(hint.isascii() for hint in hints))


def cues(text: str) -> Iterator[re.Match[str]]:
    """The words of a text's sentences that come before an answer, language by language. The answer begins where a match ends."""
    folded = text.casefold()
    for hints, pattern in _ASCII_CUES if text.isascii() else _CUES:
        if any(hint in folded for hint in hints):
            yield from pattern.finditer(text)


BEFORE_A_CUE = "|".join(
    (
        r"if|whether|suppose|supposing|assum\w+|unless|check(?:ing)? that|verify that|had|wenn|falls|si|se|если",
        r"wrong|incorrect|previous|earlier|initial|first|old|other|intermediate|partial|common|tempting|naive|mistaken|possible",
        r"expected|thought|guessed|originally|initially|at first|previously|mistakenly|incorrectly|wrongly|student'?s?|claimed",
    )
)
"""Words before a cue, in its sentence, with which the sentence does not claim the answer: `if the answer is`."""

CLAUSES = r"so|because|since|as|which|where|when|if|but|I hope|weil|denn|da|car|porque|так как"
"""Words that begin another clause, and so end the one that holds the answer."""

_ADVERBS = (
    r"indeed|also|therefore|thus|quite|very|really|now|then|again|still|in fact|most likely|probably|certainly|definitely"
    r"|actually|always|already|just|simply|not only|too|rather|fairly|completely|perfectly|pretty"
)
_PREDICATES = "|".join(
    (
        r"[a-z]+(?:able|ible|ful|ous|less|ing)|simple|easy|hard|difficult|correct|right|wrong|incorrect|valid|invalid",
        r"consistent|plausible|sound|clear|unclear|obvious|logical|trivial|straightforward|complete|incomplete|final|exact|approximate",
        r"close|good|bad|great|fine|nice|neat|ok|okay|true|verified|confirmed|checked|supported|known|unknown|unique|found|obtained",
        r"given|derived|shown|stated|computed|calculated|determined|reached|based|written|expressed|rounded|explained|provided|boxed",
        r"used|needed|required|in|on|at|from|for|by|as|of|with|within|inside|below|above|here|there|what|how|why|when|where",
        r"that we|this|these|those|it|its|we|you|he|she|they|I|let|let's|to be|to|not|never|no longer|too|much|more|less|greater",
        r"smaller|larger|fewer|bigger|higher|lower|between|different|similar|same|the same|independent|as follows|the following",
        r"my|our|your|their|his|her|step|so|because|since|if|and|or|but|is|are|do|does|did|can|could|should|would|will|may|might|please|note",
        r"sorry",
        r"a (?:whole|natural|positive|negative|prime|real|rational|single|possible|good|valid|multiple|reasonable|common|number"
        r"|value|fraction|matter|bit|little)",
        r"an (?:integer|expression|equation|even|odd|approximation|estimate|interesting)",
        r"the (?:sum|product|difference|number|value|one|same|following|quotient|total|area|smallest|largest|only|last|first"
        r"|correct|final|answer)(?! \w+ is)",
    )
)
_FOREIGN_PREDICATES = (
    r"richtig|falsch|korrekt|einfach|sinnvoll|correcta?|correto|correcte?|juste|fausse|raisonnable|razonable|verdadeir[oa]|верн\w+"
    r"|правильн\w+|неверн\w+|正确|对的|错|合理|正しい|맞|옳"
)
NO_ANSWER = rf"(?:(?:{_ADVERBS})\s+)*(?:{_PREDICATES})\b|{_FOREIGN_PREDICATES}"
"""What follows a cue in a sentence about an answer that does not state it: `The answer is reasonable`, `is consistent with`."""
