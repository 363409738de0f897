"""What stages cost in floating-point operations, counted from parameters N and tokens (2N per sampled token, 6N per trained one,
4N where adapters alone are trained), since compilers count a scanned layer once. Attention's share, small for
short contexts, is left out."""


def sampling_flops(parameters: int, tokens: int) -> float:
    """One forward pass per token, prompt tokens included."""
    return 2.0 * parameters * tokens


def training_flops(
    parameters: int, tokens: int, rematerialised: bool = False, reference_parameters: int = 0, trained: int | None = None
) -> float:
    """Forward and backward over `tokens` (epochs counted) of a model of `parameters`, adapters included, of which `trained` have
    gradients (None: all). Rematerialisation adds a forward pass, and so does a frozen reference of `reference_parameters`."""
    passes = (6.0 if rematerialised else 4.0) * parameters + 2.0 * (parameters if trained is None else trained)
    return (passes + 2.0 * reference_parameters) * tokens
