"""Multiple choice: where a text says its letter, in which words and marks, and what is no choice."""

import pytest

from w2sr_jax.answers.graders import ChoiceGrader
from w2sr_jax.core.records import Problem

OPTIONS = ["Paris", "London", "Rome", "Bern"]


def letter(text: str) -> str | None:
    """What the grader reads; it must call this letter right, and every other one wrong."""
    verdicts = {gold: ChoiceGrader()(text, Problem.of("q", gold, None, "", {"options": OPTIONS})) for gold in "ABCD"}
    right = [gold for gold, verdict in verdicts.items() if verdict.verdict == "correct"]
    assert len(right) <= 1
    assert (verdicts["A"].answer is None) == (not right)
    return right[0] if right else None


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("Antwort: B", "B"),
        ("Die richtige Antwort ist (B).", "B"),
        ("Die Antwort lautet B.", "B"),
        ("La réponse est B.", "B"),
        ("Réponse : B", "B"),
        ("La respuesta correcta es B.", "B"),
        ("Respuesta: B) London", "B"),
        ("A resposta correta é B.", "B"),
        ("A alternativa correta é B.", "B"),
        ("La risposta corretta è B.", "B"),
        ("Ответ: B", "B"),
        ("Правильный ответ — B.", "B"),
        ("答案是B。", "B"),
        ("答案：B", "B"),
        ("正确答案是 B。", "B"),
        ("故选B。", "B"),
        ("因此，本题选B", "B"),
        ("应该选择B。", "B"),
        ("答えはBです。", "B"),
        ("正解はBです。", "B"),
        ("정답은 B입니다.", "B"),
        ("정답: B", "B"),
        ("Đáp án là B.", "B"),
        ("Jawaban: B", "B"),
        ("<answer>B</answer>", "B"),
        ("<answer>\n(B) London\n</answer>", "B"),
        ("<think>It is A. Answer: A</think><answer>B</answer>", "B"),
        ("<think>Answer: A</think>", None),
        ("<think>Answer: A, or rather", None),
        ("so it is C.\n</think>\nAnswer: B", "B"),
        ('"B"', "B"),
        ("'B'.", "B"),
        ("**B**", "B"),
        ("“B”", "B"),
        ("(B)", "B"),
        ("\\boxed{\\text{B}}", "B"),
        ("$\\boxed{B}$", "B"),
        ("#### B", "B"),
        ("#### B. London", "B"),
        ("#### A. Overview\nWe look at all.\n#### B. Options\nThe answer is C.", "C"),
        ("#### A. Overview\nWe look at all.", None),
        ("The answer is not A, but B.", "B"),
        ("The answer is not A. It is B.", "B"),
        ("The answer is not A.", None),
        ("It is not A.", None),
        ("Answer: A or B", None),
        ("Answer: B\n\nQuestion: Where is Rome?\nAnswer: C", "B"),
        ("Answer: B<|im_end|>\nAnswer: C", "B"),
        ("My choice is B!", "B"),
        ("I choose B.", "B"),
        ("A good answer needs thought.", None),
        ("The answer is clear.", None),
        ("I do not know.", None),
        ("Ich weiß es nicht.", None),
        ("La respuesta correcta es la B. París (A) no está en Italia.", "B"),
        ("La bonne réponse est la B.", "B"),
        ("La bonne réponse est l'option B.", "B"),
        ("A resposta correta é a letra B.", "B"),
        ("A alternativa correta é a B.", "B"),
        ("Die richtige Antwort ist die B.", "B"),
        ("Richtig ist B.", "B"),
        ("正解は【B】です。Aはフランスの首都です。", "B"),
        ("答案是「B」。", "B"),
        ("Respuesta correcta: B", "B"),
        ("Правильный вариант ответа: B", "B"),
        ("答案不确定。", None),
        ("London", "B"),
        ("The answer is London.", "B"),
        ("The answer is Madrid.", None),
    ],
)
def test_the_letter_that_a_text_settles_on(text: str, meant: str | None) -> None:
    assert letter(text) == meant
