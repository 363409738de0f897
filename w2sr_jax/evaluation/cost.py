"""What stages cost in floating-point operations, counted from parameters N and tokens (METHODS: 2N per sampled token, 6N per
trained one), since compilers count a scanned layer once. Attention's share, small for short contexts, is left out."""

from typing import TypedDict


def sampling_flops(parameters: int, tokens: int) -> float:
    """One forward pass per token, prompt tokens included."""
    return 2.0 * parameters * tokens


def training_flops(
    parameters: int, tokens: int, rematerialised: bool = False, lora: bool = False, reference_parameters: int = 0
) -> float:
    """Forward and backward over `tokens` (epochs counted). Rematerialisation adds a forward pass, LoRA leaves the weights'
    gradients out, a frozen reference of `reference_parameters` adds its forward pass."""
    passes = (4.0 if lora else 6.0) + (2.0 if rematerialised else 0.0)
    return (passes * parameters + 2.0 * reference_parameters) * tokens


def w2sr_flops(
    teacher_parameters: int,
    samples: int,
    mean_tokens: float,
    problems: int,
    student_parameters: int,
    epochs: float,
    kept_tokens: int,
) -> float:
    """Sampling `samples` traces per problem from the teacher, then fine-tuning the student on the tokens kept."""
    return 2.0 * teacher_parameters * samples * mean_tokens * problems + 6.0 * student_parameters * epochs * kept_tokens


def compute_matched_samples(strong_samples: int, strong_parameters: int, weak_parameters: int) -> float:
    """How many samples of a weak model cost as much as those of a strong one (2408.16737)."""
    return strong_samples * strong_parameters / weak_parameters


class PerPoint(TypedDict):
    """Cost of one accuracy point; `high` is None where the gain's interval reaches 0, all are None without a gain."""

    value: float | None
    low: float | None
    high: float | None


def cost_per_point(cost: float, gain: float, low: float, high: float) -> PerPoint:
    """Cost (device-hours, or money) per percentage point of a gain given as a share, with the gain's interval carried through."""

    def per(share: float) -> float | None:
        return cost / (100 * share) if share > 0 else None

    if gain <= 0:
        return PerPoint(value=None, low=None, high=None)
    return PerPoint(value=per(gain), low=per(high), high=per(low))
