"""Questions as plain text: one spelling for characters, and no HTML, Markdown, LaTeX or chat marks.

What comes out is meant for comparing questions, not for reading: `\\frac{1}{2}`, `½` and `1/2` all become `1/2`.
"""

import html
import re
import unicodedata

_SIGNS = {
    **dict.fromkeys(map(ord, "−–‒‐‑﹣－"), "-"),
    **dict.fromkeys(map(ord, "—―⸺"), " -- "),
    **dict.fromkeys(map(ord, "×∗⋅·•∙✕✖"), "*"),
    **dict.fromkeys(map(ord, "÷∕⁄"), "/"),
    **dict.fromkeys(map(ord, '“”„‟«»「」『』〝〞"＂'), " "),
    **dict.fromkeys(map(ord, "‘’‚‛‹›´ʼ＇′"), "'"),
    **dict.fromkeys(map(ord, "【〔〖［"), "["),
    **dict.fromkeys(map(ord, "】〕〗］"), "]"),
    **dict.fromkeys(map(ord, "√∛∜"), " sqrt "),
    ord("≠"): "≠",
    **dict.fromkeys(map(ord, "≤⩽≦"), "≤"),
    **dict.fromkeys(map(ord, "≥⩾≧"), "≥"),
    **dict.fromkeys(map(ord, "°º˚"), " degrees "),
    **dict.fromkeys(map(ord, "∠∡"), " angle "),
    **dict.fromkeys(map(ord, "△▵"), " triangle "),
    **dict.fromkeys(map(ord, "→⟶➔➝⇒⟹"), " to "),
    **dict.fromkeys(map(ord, "…⋯⋮"), " "),
    **dict.fromkeys(map(ord, "∣｜"), "|"),
    ord("∞"): " infty ",
    ord("∈"): " in ",
    ord("∉"): " notin ",
    ord("∪"): " cup ",
    ord("∩"): " cap ",
    ord("⊂"): " subset ",
    ord("⊆"): " subseteq ",
    ord("⊥"): " perp ",
    ord("∥"): " parallel ",
    ord("≡"): " equiv ",
    ord("≅"): " cong ",
    ord("≈"): " approx ",
    ord("∼"): " sim ",
    ord("∑"): " sum ",
    ord("∏"): " prod ",
    ord("∫"): " int ",
    ord("∂"): " partial ",
    ord("⌊"): " lfloor ",
    ord("⌋"): " rfloor ",
    ord("⌈"): " lceil ",
    ord("⌉"): " rceil ",
    ord("±"): " pm ",
    ord("∅"): " emptyset ",
    ord("‰"): " permille ",
    ord("。"): ". ",
    ord("、"): ", ",
    ord("，"): ", ",
    ord("；"): "; ",
    ord("："): ": ",
    ord("？"): "? ",
    ord("！"): "! ",
    ord("℃"): " degrees C ",
    ord("œ"): "oe",
    ord("Œ"): "Oe",
    ord("æ"): "ae",
    ord("Æ"): "Ae",
    ord("ı"): "i",
}
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_EXPONENT = re.compile(r"[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹ⁿ]+")
_VULGAR = re.compile(r"[¼-¾⅐-⅞]")
_ENCLOSED = re.compile(r"[①-⑳⑴-⒇⒈-⒛➀-➓]")
_INVISIBLE = re.compile(r"[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufe00-\ufe0f\ufeff]")
_ACCENTS = re.compile(r"(?<=[A-Za-z\u0370-\u052f])[\u0300-\u0337\u0339-\u036f]+")
_GREEK_NAMES = """
    alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi omega
    Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega phi epsilon theta
"""
_GREEK = {letter: f" {name} " for letter, name in zip("αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩϕϵϑ", _GREEK_NAMES.split())}
_KATAKANA = {code: code - 0x60 for code in range(0x30A1, 0x30F7)}
_LONE_GREEK = re.compile(r"(?<![Ͱ-Ͽ])[α-ωΓΔΘΛΞΠΣΦΨΩϕϵϑ](?![Ͱ-Ͽ])")

_BREAK = re.compile(r"</?(?:br|p|div|li|ul|ol|tr|table|tbody|thead|h[1-6]|hr)\b[^<>]{0,200}>", re.I)
_TAG = re.compile(
    r"</?(?:b|i|u|s|em|strong|span|font|code|pre|small|big|center|math|mrow|mi|mn|mo|mtext|td|th|img|image|latex|question|problem"
    r"|instruction|user|prompt|input|query|task)(?:\s+[\w:-]+\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s<>\"']+))*\s*/?>",
    re.I,
)
_RAISING = re.compile(r"<sup>([^<>]{0,100})</sup>", re.I)
_LOWERING = re.compile(r"<sub>([^<>]{0,100})</sub>", re.I)
_CHAT = re.compile(
    r"<\|im_start\|>\s*(?:user|system|assistant)?|<\|start_header_id\|>\s*\w+\s*<\|end_header_id\|>|<(?:start|end)_of_turn>\s*(?:user|model)?"
    r"|<\|[\w ]{1,40}\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:bos|eos|pad|unk)>|<[｜|][^<>|｜]{1,40}[｜|]>"
)
_IMAGE = re.compile(r"!\[[^\[\]]{0,200}\]\([^()]{0,500}\)")
_LINK = re.compile(r"\[([^\[\]\n]{1,300})\]\((?:https?://|/|\.|#)[^()\s]{0,500}\)")
_HEADING = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|>[ \t]+|[*+-][ \t]+(?=\D))", re.M)
_RULE = re.compile(r"^[ \t]*(?:[-=_*][ \t]*){3,}$", re.M)
_POWER = re.compile(r"(?<=[\w)])\s?\*\*\s?(?=\d+(?![\d*])|[a-z](?![\w*]))")
_EMPHASIS = re.compile(r"(?<![\w*])(\*{1,3})(?=[^\s*])([^*\n]{1,2000}?)(?<=[^\s*])\1(?![\w*])")
_UNDERLINED = re.compile(r"(?<![\w_])(_{1,3})(?=[^\s_])([^_\n]{1,2000}?)(?<=[^\s_])\1(?![\w_])")
_BLANK = re.compile(r"[^\S\n]+")
_LINES = re.compile(r"\s*\n\s*")

_STYLES = """
    text textbf textit textrm texttt textsf textnormal emph underline mathrm mathbf mathit mathsf mathcal mathfrak mathbb
    operatorname mbox hbox boldsymbol bm pmb bar hat vec tilde widehat widetilde overrightarrow overleftrightarrow boxed fbox
"""
_DROPPED = """
    left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr displaystyle textstyle limits nolimits noindent par
    hline quad qquad ldots dots cdots dotsc dotsb vdots ddots hfill newline centering rm bf it small large
"""
_NAMES = {
    **dict.fromkeys(("cdot", "times", "ast"), "*"),
    **dict.fromkeys(("div",), "/"),
    **dict.fromkeys(("le", "leq", "leqslant"), "≤"),
    **dict.fromkeys(("ge", "geq", "geqslant"), "≥"),
    **dict.fromkeys(("ne", "neq"), "≠"),
    **dict.fromkeys(("lt",), "<"),
    **dict.fromkeys(("gt",), ">"),
    **dict.fromkeys(("lvert", "rvert", "vert", "mid", "lVert", "rVert", "Vert"), "|"),
    **dict.fromkeys(("circ", "degree"), " degrees "),
    **dict.fromkeys(("to", "rightarrow", "Rightarrow", "longrightarrow", "implies"), " to "),
    **dict.fromkeys(("lbrack",), "["),
    **dict.fromkeys(("rbrack",), "]"),
    **dict.fromkeys(("bmod", "pmod", "mod"), " mod "),
    **dict.fromkeys(("varphi",), " phi "),
    **dict.fromkeys(("varepsilon",), " epsilon "),
    **dict.fromkeys(("vartheta",), " theta "),
    **dict.fromkeys(("dollar", "euro", "pounds"), " "),
    **dict.fromkeys(_DROPPED.split(), " "),
}
_BEGIN = re.compile(r"\\(?:begin|end)\s*\{(\w{1,20})\*?\}(?:\s*\{[lcr|@{} ]{1,40}\})?")
_LAYOUTS = {
    "align",
    "aligned",
    "equation",
    "eqnarray",
    "gather",
    "array",
    "tabular",
    "center",
    "split",
    "cases",
    "itemize",
    "enumerate",
}
_FRACTION = re.compile(r"\\(?:[dtc]?frac|[dt]?binom)\s*(?:\{([^{}]*)\}|([^\s\\{}]))\s*(?:\{([^{}]*)\}|([^\s\\{}]))")
_ROOT = re.compile(r"\\sqrt\s*(?:\[([^\[\]{}]*)\]\s*)?(?:\{([^{}]*)\}|([^\s\\{}]))")
_STYLE = re.compile(r"\\(?:" + "|".join(_STYLES.split()) + r")\*?(?![A-Za-z])\s*\{([^{}]*)\}")
_OVERLINE = re.compile(r"\\overline\s*(?:\{([^{}]*)\}|([^\s\\{}]))")
_SCRIPT = re.compile(r"([\^_])\s*\{([^{}]*)\}")
_REMOVED = re.compile(
    r"\\(?:tag|label|hspace|vspace|phantom|hphantom|vphantom|color|textcolor|includegraphics)\*?\s*(?:\[[^\[\]]*\])?\{[^{}]*\}"
)
_GROUP = re.compile(r"\{([^{},;]*)\}")
_COMMAND = re.compile(r"\\([A-Za-z]+)\*?")
_BOX = re.compile(r"\\f?boxed\s*\{\s*(?:\\text\s*\{)?[\s.]*(?:(?:your |final |the )*answer)?[\s.]*\}?\s*\}|\\boxed(?!\s*\{)")
_DOTS = re.compile(r"(?:\\cdot\s*){3,}|(?<!\.)\.(?:\s*\.){2,}")
_THIN = re.compile(r"(?<=\d)(?:\{,\}|\\,|~|\\ )(?=\d{3}(?!\d))")
_DEPTH = 12  # groups within groups that are read

ANSWER_BOX = "answerbox"
"""The word that replaces `\\boxed{}`, an empty box for the answer."""


def plain(question: str) -> str:
    """A question's text without marks of HTML, Markdown, LaTeX and chat templates, in one spelling of characters, with single
    spaces and with its line breaks. Letters keep their case; accents and dollar signs are gone."""
    text = question
    if "&" in text and ";" in text:
        text = html.unescape(text)
    if "<" in text or "[" in text:
        text = _CHAT.sub("\n", text)
    if "<" in text and ">" in text:
        text = _untagged(text)
    if not text.isascii():
        text = _characters(text)
    if "\\" in text or "{" in text or "~" in text:
        text = _unlatexed(text)
    text = text.replace('"', " ").replace("`", "").replace("$", " ")
    if "*" in text or "_" in text or "#" in text or ">" in text or "](" in text or "---" in text or "- " in text:
        text = _unmarked(text)
    return _LINES.sub("\n", _BLANK.sub(" ", text)).strip()


def _untagged(text: str) -> str:
    text = _RAISING.sub(r"^{\1}", _LOWERING.sub(r"_{\1}", text))
    text = _BREAK.sub("\n", text)

    def tag(match: re.Match[str]) -> str:
        # `a<b>c` is a chain of inequalities where nothing closes the tag.
        name = match.group().strip("</>").split()[0].lower()
        return " " if len(name) > 1 or f"</{name}>" in text.lower() else match.group()

    return _TAG.sub(tag, text)


def _characters(text: str) -> str:
    """One spelling for characters that look or mean the same."""
    text = _INVISIBLE.sub("", text)
    text = _EXPONENT.sub(lambda match: "^{" + match.group().translate(_RAISED) + "}", text)
    text = _VULGAR.sub(lambda match: " " + unicodedata.normalize("NFKC", match.group()) + " ", text)
    text = _ENCLOSED.sub(lambda match: unicodedata.normalize("NFKC", match.group()).strip("().") + ") ", text)
    text = unicodedata.normalize("NFC", text).translate(_SIGNS)
    text = unicodedata.normalize("NFKC", text).translate(_SIGNS).translate(_KATAKANA)
    if text.isascii():
        return text
    text = unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", text)))
    text = "".join(str(unicodedata.decimal(char)) if char > "\x7f" and char.isdecimal() else char for char in text)
    return _LONE_GREEK.sub(lambda match: _GREEK.get(match.group(), match.group()), text)


def _unlatexed(text: str) -> str:
    text = _THIN.sub(",", text)
    text = text.replace("\\{", "⦃").replace("\\}", "⦄").replace("~", " ")
    text = _BOX.sub(f" {ANSWER_BOX} ", text)
    text = _DOTS.sub(" ", text)
    text = _BEGIN.sub(lambda match: " " if match[1] in _LAYOUTS else f" {match[1]} ", text)
    text = text.replace("\\\\", "\n").replace("\\(", " ").replace("\\)", " ").replace("\\[", "\n").replace("\\]", "\n")
    text = re.sub(r"\\([,;:! ])", " ", text)
    text = re.sub(r"\\([%&#_$|])", lambda match: " and " if match[1] == "&" else match[1], text)
    for _ in range(_DEPTH):
        before = text
        text = _REMOVED.sub(" ", text)
        text = _STYLE.sub(r" \1 ", text)
        text = _SCRIPT.sub(_script, text)
        text = _ROOT.sub(lambda match: f" sqrt {match[1] or ''} ({match[2] or match[3] or ''}) ", text)
        text = _OVERLINE.sub(_overline, text)
        text = _FRACTION.sub(_fraction, text)
        if text == before:
            break
    text = re.sub(r"\^\s*\(?\s*\\(?:circ|degree)\b\s*\)?", " degrees ", text)
    text = re.sub(r"\^\s*\(?\s*\\prime\b\s*\)?", "'", text)
    text = _COMMAND.sub(lambda match: _NAMES.get(match[1], f" {match[1]} "), text)
    # Braces that hold no list, or that stand beside escaped ones, only group.
    text = re.sub(r"[{}]", " ", text) if "⦃" in text else _GROUP.sub(r" \1 ", text)
    return text.replace("⦃", "{").replace("⦄", "}").replace("\\", " ")


def _script(match: re.Match[str]) -> str:
    return f"{match[1]}({match[2]})" if match[1] == "^" else f" {match[2]} "


def _overline(match: re.Match[str]) -> str:
    inside = match[1] if match[1] is not None else match[2]
    return f" overline ({inside}) " if any(char.isdigit() for char in inside) else f" {inside} "


def _fraction(match: re.Match[str]) -> str:
    over, under = match[1] if match[1] is not None else match[2], match[3] if match[3] is not None else match[4]
    if "binom" in match.group()[:8]:
        return f" binom ({over}) ({under}) "
    before = " " if match.start() and match.string[match.start() - 1].isdigit() else ""
    return f"{before}{over}/{under}" if over.isalnum() and under.isalnum() else f"{before}({over})/({under})"


def _unmarked(text: str) -> str:
    text = _POWER.sub("^", text)
    text = _IMAGE.sub(" ", text)
    text = _LINK.sub(r"\1", text)
    text = _RULE.sub("", text)
    for _ in range(3):
        before = text
        text = _EMPHASIS.sub(r"\2", text)
        text = _UNDERLINED.sub(r"\2", text)
        if text == before:
            break
    return _HEADING.sub("", text)
