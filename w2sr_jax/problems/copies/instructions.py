"""Recognise sentences that only say how to answer a question, in several languages."""

import re

from w2sr_jax.problems.copies.plaintext import ANSWER_BOX

_DO = (
    r"(?:please |kindly |now |ok |okay |hi |hello |hey |so |then |and |carefully |first |can you |could you |help me (?:to )?"
    r"|try to |i want you to |i need you to |your task is to |you (?:must|should|need to|have to|will) )*,?\s*"
)
_INSTRUCTIONS = [
    re.compile(pattern, re.I | re.S)
    for pattern in (
        # English
        _DO + r"(?:solve|answer|consider|read|work out|work on|complete|do|look at|try|tackle|attempt|think about"
        r"|explain how to solve)\s+"
        r"(?:(?:the|this|these|my|each|a|an|following|next|below|given|above|simple|short|math(?:s|ematics"
        r"|ematical)?|arithmetic|algebra|geometry"
        r"|word|grade|school|hard|easy|challenging|multiple[- ]choice|high|middle|elementary|competition)[\s,-]+)+"
        r"(?:problem|question|exercise|task|puzzle|one)s?\b[^\d]*",
        r"(?:ok(?:ay)?,? )?(?:so )?let(?:'?s| us| me) (?:think|reason|work|solve|go|take|break|do|proceed|approach"
        r"|tackle|analy[sz]e|first think)\b[^\d]*",
        _DO + r"(?:think|reason|work|proceed|explain|solve|do|go|break|analy[sz]e|take|verify|double[- ]check"
        r"|check)\b[^\d]*"
        r"(?:step[- ]by[- ]step|\bsteps?\b|carefully|reasoning|through|deep breath|before (?:you )?answer"
        r"|your (?:work|answer))[^\d]*",
        rf".*\b{ANSWER_BOX}\b.*",
        _DO + r"(?:put|place|write|give|provide|state|express|enter|report|return|output|present|enclose|include|end"
        r"|finish|conclude|simplify"
        r"|leave|round|type|submit|box|format|mark|wrap|append|supply|list)\b[^?]*\b(?:your"
        r"|final) (?:\w+ ){0,2}(?:answers?|solutions?|responses?|result|work|reasoning)\b[^?]*",
        _DO + r"(?:express|give|write|round|leave|enter|state|provide|report|submit|simplify) "
        r"(?:the |all |each |any )?answers?\b[^?]*",
        _DO + r"round(?: it| off| up| down)* to (?:the nearest|\w+ (?:decimal|significant))[^?]*",
        _DO + r"(?:show|explain|justify|write|give|provide|include|describe|state|detail) "
        r"(?:me )?(?:all |out |down )?(?:of )?(?:your|the|each|every|all) "
        r"(?:\w+ ){0,2}(?:work|working|workings|steps?|reasoning|thinking|calculations?|answer|thought process"
        r"|method|solution process)\b[^?\d]*",
        _DO + r"(?:respond|reply|answer|finish|end|conclude|output)\s+(?:with|in|as|using|only|by|your)\b[^?]*",
        _DO + r"(?:(?:write|give|output|state|provide|return|print|show) (?:me )?only"
        r"|only (?:write|give|output|state|provide|return|print|show))\b[^?]*",
        r"(?:your|the)(?: final)? (?:answer|response|output|solution) (?:should|must|has to|needs to|is to)\b[^?]*",
        r"(?:you are|act as|imagine you are) (?:an? |the )?(?:[\w-]+ ){0,5}(?:assistant|expert|tutor|mathematician"
        r"|solver|ai|model|chatbot|professor|helper)\b[^?\d]*",
        r"below (?:is|are) [^?\d]*",
        _DO + r"write a (?:response|solution|step-by-step solution|detailed solution)\b[^?\d]*",
        r"(?:here(?:'?s| is| are| comes)|this is|i have|i need help (?:with|on)|can you help me with|consider|given) "
        r"(?:the |this |a |an |my |your |another )?(?:[\w-]+ ){0,4}(?:problem|question|exercise|puzzle|task"
        r"|challenge|one|homework)s?\b[^?\d]{0,60}",
        r"(?:the following|the next)(?: \w+){0,4} (?:problem|question|exercise|task)s?\b[^?\d]{0,80}",
        r"(?:no |do not use (?:a |any )?|without (?:a |using a )?|you may (?:not )?use (?:a "
        r"|your )?)calculators?\b[^?\d]*|calculators? (?:is|are) not allowed[^?\d]*",
        r"(?:thanks|thank you|good luck|many thanks|think carefully|be careful|be concise|take your time"
        r"|remember to)\b[^?\d]{0,60}",
        r"(?:multiple choice|select one|select the best answer|choose the (?:correct|best|right) (?:answer|option)"
        r"|choose one|pick one|circle one|which (?:option|answer) is correct)\b[^\d]{0,60}",
        r"(?:answer|answers?|final answer|solution|question|problem|options|choices|answer choices|step by step"
        r"|explain|explain your answer|show your work|solve|solve it|solve this|solve for me)\s*[.:!]*",
        # Chinese, Japanese, Korean (spaces and punctuation are ASCII by now)
        r"(?:请|請|麻烦|帮我|你?需要)*(?:一步一步|一步步|逐步|仔细|认真)?(?:地)?(?:思考|推理|解答|回答|求解|解决|解一下|计算|做|看|阅读|完成|解)(?:一下)?"
        r"(?:下面|以下|下列|这道|这个|这|该|如下|下述|此)(?:的|个|道|一道)*[^?\d]{0,8}(?:问题|题目|题|應用題|題目|問題)[^?\d]{0,12}",
        r"(?:请|請|让我们|我们)*,?\s*(?:一步一步|一步步|逐步|分步|按步骤|仔细)[^?\d]*",
        r"(?:请|請)?(?:将|把|在|用)?(?:你的|您的)?(?:最终|最后|正确)的?(?:答案|结果)[^?]*",
        r"(?:请|請)(?:给出|写出|写下|说明|展示|列出|详细)[^?\d]*(?:过程|步骤|答案|解答|解法|思路|推理)[^?\d]*",
        r"(?:答案|解答|求解|解|问题如下|题目如下)\s*[:.]*",
        r"(?:次|以下|下記|つぎ)の[^?\d]{0,12}(?:問題|問い|質問|問)[^?\d]{0,24}",
        r"(?:ステップバイステップ|段階的に|順を追って|一歩ずつ)[^?\d]*|最終的?な?(?:答え|回答|解答)[^?]*",
        r"다음(?:의)? ?[^?\d]{0,8}(?:문제|질문)[^?\d]{0,24}|단계별로[^?\d]*"
        r"|차근차근[^?\d]*|(?:최종 )?(?:정답|답)(?:을|은)[^?\d]*",
        # French, German, Spanish, Portuguese, Italian, Russian (accents are gone by now)
        r"(?:s'?il (?:vous|te) plait,? )?(?:veuillez )?(?:resolvez|resous|resoudre|repondez|reponds|repondre|traitez"
        r"|lisez)\b[^?\d]*(?:probleme|question|exercice)s?\b[^?\d]*",
        r"(?:reflechi\w+|raisonn\w+|pensez|pensons|proced\w+)\b[^?\d]*(?:etapes?|pas a pas|soigneusement)[^?\d]*",
        r"(?:mettez|mets|donnez|donne|ecrivez|ecris|indiquez|placez|place|encadrez|justifiez|justifie|expliquez"
        r"|explique|detaillez|montrez)\b"
        r"[^?\d]*(?:reponse|raisonnement|demarche|calculs|etapes)\b[^?]*",
        r"(?:bitte )?(?:lose|losen sie|loese|beantworte|beantworten sie|bearbeite|bearbeiten sie"
        r"|lies)\b[^?\d]*(?:aufgabe|problem|frage|textaufgabe)n?\b[^?\d]*(?:bitte)?[^?\d]*",
        r"(?:bitte )?(?:denke?|denken (?:sie|wir)|uberlege|lass uns|lasst uns|gehe?|gehen sie"
        r"|erklare)\b[^?\d]*schritt[^?\d]*",
        r"(?:bitte )?(?:schreibe?n?|gib|geben|setze|begrunde|begrunden|zeige|zeigen)(?: sie)?\b[^?\d]*(?:antwort"
        r"|losungsweg|rechenweg|endergebnis)\b[^?]*",
        r"(?:por favor,? )?(?:resuelve|resuelva|resuelvan|responde|responda|contesta|resolva|resolver|risolvi"
        r"|risolvere|rispondi)\b"
        r"[^?\d]*(?:problema|pregunta|ejercicio|exercicio|questao|pergunta|domanda|esercizio|quesito)s?\b[^?\d]*",
        r"(?:por favor,? )?(?:pensemos|piensa|piense|razona|razone|pense|pensa|raciocine|vamos pensar|ragiona"
        r"|ragioniamo|pensiamo)\b[^?\d]*(?:paso|passo|passaggi)[^?\d]*",
        r"(?:escribe|escriba|da|pon|coloca|muestra|explica|justifica|escreva|coloque|de|mostre|explique|scrivi|metti"
        r"|inserisci|mostra|spiega)\b"
        r"[^?\d]*(?:respuesta|resposta|risposta|razonamiento|raciocinio|ragionamento|procedimiento|procedimento"
        r"|pasos|passos|passaggi)\b[^?]*",
        r"(?:пожалуиста,? )?(?:реши|решите|ответь|ответьте)\b[^?\d]*(?:задач\w*|вопрос\w*)[^?\d]*"
        r"|давай(?:те)?\b[^?\d]*(?:шаг|рассужд)[^?\d]*|(?:думай|рассуждай)\w*\b[^?\d]*",
        r"(?:запиши|напиши|дай|укажи|поясни|обоснуй|покажи)(?:те)?\b[^?\d]*(?:ответ|решени|ход|рассужд)[^?]*",
    )
]
_FORMAT = re.compile(
    r"express|round|simpl|leave|nearest|fraction|decimal|percent|\bunits?\b|\bforms?\b|degree|radian|terms of"
    r"|notation",
    re.I,
)
_WORD = re.compile(r"[^\W\d_]{2,}")
_LEAST_QUESTION = 3  # words of a text that asks something without the instruction
_HINT = re.compile(
    r"answer|solution|solv|problem|question|exercise|task|puzzle|challenge|think|reason|work|step|explain|show"
    r"|round|respon|repl|below"
    r"|you are|act as|following|calculator|thank|luck|careful|concise|remember|time|only|choice|option|select|choose"
    r"|pick|circle|write a"
    r"|[\u0400-\u04ff]|[^\x00-\u024f]|repon|raisonn|etape|pas a pas|demarche|aufgabe|frage|schritt|antwort|losung"
    r"|rechenweg|ergebnis"
    r"|pregunta|ejercicio|exercicio|questao|pergunta|domanda|esercizio|quesito|paso|passo|passaggi|respuesta"
    r"|resposta|risposta|procedim"
    r"|razona|raciocin|ragiona",
    re.I,
)
"""Every instruction has a match of this; sentences without one need not be tried."""
LONGEST = 400  # characters of an instruction


def instruction(sentence: str) -> bool:
    """Whether a sentence only says how to answer, so that the question is complete without it."""
    sentence = sentence.strip(" \n:.!*")
    if not 1 < len(sentence) <= LONGEST or not _HINT.search(sentence):
        return False
    return any(pattern.fullmatch(sentence) for pattern in _INSTRUCTIONS)


def asks_by_itself(sentence: str, rest: str) -> bool:
    """Whether an instruction is itself the question, since the rest is too short to ask anything: `Give your answer as a
    percentage: 0.75`."""
    return _FORMAT.search(sentence) is not None and len(_WORD.findall(rest[:LONGEST])) < _LEAST_QUESTION
