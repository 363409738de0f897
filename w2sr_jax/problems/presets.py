"""Well-known problem sets as `Files`: which fields hold what. A copy in the same columns is read with
`dataclasses.replace(preset, path="hf:DIRECTORY")`. Multiple choice is graded by `answers.graders.ChoiceGrader`, the others by the
default grader.
"""

from w2sr_jax.problems.settings import Fields, Files

MATH_SUBJECTS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)


def gsm8k(split: str = "train") -> Files:
    """Grade-school word problems, train 7,473 and test 1,319, with worked solutions."""
    return Files(f"hf:openai/gsm8k:main:{split}", task="gsm8k")


def math(split: str = "train") -> Files:
    """Competition mathematics, train 7,500 and test 5,000, with worked solutions, levels and subjects."""
    subjects = "+".join(MATH_SUBJECTS)
    fields = Fields(question="problem", answer="solution", solution="solution", answer_by=("boxed",), meta=("level", "type"))
    return Files(f"hf:EleutherAI/hendrycks_math:{subjects}:{split}", fields, task="math")


def math500() -> Files:
    """500 test problems of MATH."""
    fields = Fields(question="problem", solution="solution", id="unique_id")
    return Files("hf:HuggingFaceH4/MATH-500::test", fields, task="math500")


def aime2024() -> Files:
    """30 problems; answers are whole numbers from 0 to 999."""
    fields = Fields(question="problem", solution="solution", id="id")
    return Files("hf:HuggingFaceH4/aime_2024::train", fields, task="aime2024")


def aime2025() -> Files:
    """30 problems; answers are whole numbers from 0 to 999."""
    return Files("hf:math-ai/aime25::test", Fields(question="problem", id="id"), task="aime2025")


def olympiadbench() -> Files:
    """674 open-ended English problems of mathematical competitions without pictures."""
    meta = ("subfield", "is_multiple_answer", "unit", "answer_type", "error")
    fields = Fields(question="question", answer="final_answer", id="id", answer_by=("tidy",), meta=meta)
    return Files("hf:Hothan/OlympiadBench:OE_TO_maths_en_COMP:train", fields, task="olympiadbench")


def minerva() -> Files:
    """272 problems of undergraduate science and mathematics."""
    return Files("hf:math-ai/minervamath::test", task="minerva")


def svamp(split: str = "test") -> Files:
    """Elementary word problems with misleading variations, train 700 and test 300."""
    fields = Fields(question="Body + Question", answer="Answer", id="ID", meta=("Type",))
    return Files(f"hf:ChilleD/SVAMP::{split}", fields, task="svamp")


def mmlu(subject: str = "all", split: str = "test") -> Files:
    """Multiple choice in 57 subjects, test 14,042; `subject` as on the Hub, such as `college_mathematics`."""
    fields = Fields(choices=("choices",), answer_is="index", meta=("subject",))
    return Files(f"hf:cais/mmlu:{subject}:{split}", fields, task="mmlu")


def gpqa(subset: str = "diamond") -> Files:
    """Multiple choice by experts in biology, physics and chemistry: diamond 198, main 448, extended 546. Gated on the Hub:
    it needs your consent and token."""
    wrong = (f"Incorrect Answer {number}" for number in (1, 2, 3))
    fields = Fields(
        question="Question",
        answer="Correct Answer",
        id="Record ID",
        choices=("Correct Answer", *wrong),
        meta=("Subdomain", "High-level domain"),
    )
    return Files(f"hf:Idavidrein/gpqa:gpqa_{subset}:train", fields, task="gpqa")
