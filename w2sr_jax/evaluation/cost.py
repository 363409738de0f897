"""What stages cost in floating-point operations, counted from parameters N and tokens (METHODS: 2N per sampled token, 6N per
trained one), since compilers count a scanned layer once. Attention's share, small for short contexts, is left out."""


def sampling_flops(parameters: int, tokens: int) -> float:
    """One forward pass per token, prompt tokens included."""
    return 2.0 * parameters * tokens


def training_flops(parameters: int, tokens: int, rematerialised: bool = False, reference_parameters: int = 0) -> float:
    """Forward and backward over `tokens` (epochs counted). Rematerialisation adds a forward pass, and so does a frozen reference
    of `reference_parameters`."""
    return ((8.0 if rematerialised else 6.0) * parameters + 2.0 * reference_parameters) * tokens
