"""Classes of lengths: programs have one shape for each, so that a run compiles a handful of them whatever comes. No jax."""

PREFILL = 2048
"""Tokens that are read together, prompts' padding included, or one prompt where it is longer."""


def prompt_class(length: int) -> int:
    """The prompt positions of the program that reads a prompt of this length: 48, 64, 96, 128, 192, 256, …"""
    return _class(length, 48)


def cache_class(length: int) -> int:
    """The cache slots of the program that decodes rows of up to this length: 128, 192, 256, 384, 512, 768, …"""
    return _class(length, 128)


def _class(length: int, least: int) -> int:
    slots = least
    while slots < length:
        slots = slots * 3 // 2 if slots & (slots - 1) == 0 else slots * 4 // 3
    return slots
