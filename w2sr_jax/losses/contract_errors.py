"""What Python and JAX raise while a user's loss is traced, as one short sentence: the mistake and what would be right."""

import difflib
import re
import traceback

import jax

from w2sr_jax.core import sentences
from w2sr_jax.core.code import usercode
from w2sr_jax.losses.inputs import INITIAL, Rollout, Tokens
from w2sr_jax.losses.sequences import Sequences

_LONG = 240  # characters of another's message
_RUNTIME_VALUE = "a value that is known only when the compiled program runs"

_INSTEAD = {
    "mask": "masking is the framework's, a loss sees supervised tokens alone",
    "weight": "weights are the framework's, see Objective.weights",
    "weights": "weights are the framework's, see Objective.weights",
    "labels": "the next tokens are `tokens.target`",
    "label": "the next tokens are `tokens.target`",
    "step": "how far the training is, 0 to 1, is `tokens.progress`",
    "advantage": "whether a trace is right is `tokens.verdict`; advantages of rollouts are `tokens.drawn().advantage`",
    "reward": "whether a trace is right is `tokens.verdict`; advantages of rollouts are `tokens.drawn().advantage`",
    "sampled": "of rollouts, it is `tokens.drawn().sampled`",
    "log_ratio": "of rollouts, it is `tokens.drawn().log_ratio`",
    "reference": (
        f"the initial student's log-probabilities are tokens.logprobs_of({INITIAL!r}), for a loss with the attribute "
        f"models = ({INITIAL!r},)"
    ),
    "logp": "the student's log-probabilities are jax.nn.log_softmax(tokens.logits)",
    "logprobs": "the student's log-probabilities are jax.nn.log_softmax(tokens.logits)",
}

_STARTS = (
    ("JAX arrays are immutable", "assigns to a part of an array; write x = x.at[index].set(value)"),
    ("No JVP defined", "is a jax.custom_jvp without a rule; give it one with NAME.defjvp, or leave the decorator out"),
    ("No VJP defined", "is a jax.custom_vjp without rules; give them with NAME.defvjp, or leave the decorator out"),
    (
        "Reverse-mode differentiation does not work for lax.while_loop",
        "cannot be differentiated: jax.lax.while_loop, and fori_loop with bounds that are computed, have no gradient backwards; "
        "use jax.lax.scan or fori_loop with fixed bounds",
    ),
    (
        "Pure callbacks do not support JVP",
        "cannot be differentiated through jax.pure_callback; put it below jax.lax.stop_gradient or give it a jax.custom_vjp",
    ),
    (
        "IO callbacks do not support JVP",
        "cannot be differentiated through io_callback; a loss is a pure function of its tokens",
    ),
    (
        "Leaked",
        "keeps an array of its call beyond it (in a global, an attribute or a cache); a loss returns all that it computes, "
        "jax.debug.print shows values",
    ),
)


def words(error: BaseException, shapes: str) -> str | None:
    """The sentence, to be said behind the function's name; None where the error's own words say it best. `shapes` says which ones
    it was tried with, where a message speaks of shapes."""
    if isinstance(error, AttributeError):
        for kind, written in ((Tokens, "tokens"), (Rollout, "tokens.rollout"), (Sequences, "sequences")):
            if isinstance(error.obj, kind):
                return _field(str(error.name), kind._fields, written)
        if error.obj is None and error.name in (*Rollout._fields, "log_ratio"):
            return (
                f"asks for tokens.rollout.{error.name} where there are no rollouts; a loss on rollouts has the attribute "
                "needs_rollouts = True and reads tokens.drawn()"
            )
    said = _said(error)
    start = next((right for begins, right in _STARTS if said.startswith(begins)), None)
    if start is not None:
        return start
    if isinstance(error, TypeError) and "tuple indices must be integers" in said:
        return "looks its tokens up by name in brackets; write tokens.logits"
    if isinstance(error, TypeError) and "unsupported format string" in said and "Tracer" in said:
        return f"writes out {_RUNTIME_VALUE}; jax.debug.print('{{}}', x) prints it then"
    if isinstance(error, TypeError) and "unhashable type" in said and "Tracer" in said:
        return "uses an array as a key or as the argument of a cached function; neither can be compiled"
    if isinstance(error, jax.errors.UnexpectedTracerError):
        return (
            "uses an array of an earlier call, left in a global, an attribute or a cache; a loss depends on its tokens alone and "
            "returns all that it computes"
        )
    known_later = _concrete(error, said)
    if known_later is not None:
        return known_later
    if isinstance(error, AttributeError) and "Tracer has no attribute" in said:
        name = sentences.shown(said.rpartition(" ")[2].strip("'"), 40)
        return f"asks an array for .{name}, which JAX arrays do not have"
    if "shape" in said.lower() and isinstance(error, TypeError | ValueError):
        return f"raises {type(error).__name__}: {sentences.shown(said, _LONG)}; {shapes}"
    return None


def sizes(error: BaseException) -> list[int]:
    """Numbers in a message that may be the size of the vocabulary that a loss was written for."""
    numbers = {int(number) for number in re.findall(r"(?<![\w.])\d{1,7}(?![\w.])", _said(error))}
    return sorted((number for number in numbers if number > 1), reverse=True)[:4]


def _said(error: BaseException) -> str:
    try:
        return " ".join(str(error).split())
    except Exception:
        return ""


def _field(name: str, fields: tuple[str, ...], written: str) -> str:
    near = difflib.get_close_matches(name, fields, 1)
    hint = (_INSTEAD.get(name) if written == "tokens" else None) or (f"did you mean {near[0]}?" if near else "")
    asked = f"asks for {written}.{sentences.shown(name, 40)}, which there is not"
    return f"{asked}{f' ({hint})' if hint else ''}; there are {', '.join(fields)}"


def _concrete(error: BaseException, said: str) -> str | None:
    """For errors that arise where Python or NumPy needs a number and JAX has none yet."""
    if isinstance(error, jax.errors.TracerBoolConversionError):
        return (
            f"branches on {_RUNTIME_VALUE} (if, while, and, or, not, assert, min, max, sorted); jnp.where(condition, a, b) "
            "chooses for each token, & and | combine conditions, jnp.minimum and jnp.maximum compare"
        )
    if isinstance(error, jax.errors.TracerArrayConversionError):
        return "hands a JAX array to NumPy, which cannot be compiled or differentiated; use jax.numpy (jnp) instead of numpy (np)"
    if isinstance(error, jax.errors.NonConcreteBooleanIndexError):
        return "picks by a condition (x[condition]), whose length nobody knows beforehand; write jnp.where(condition, x, 0.0)"
    if isinstance(error, jax.errors.TracerIntegerConversionError):
        return f"takes {_RUNTIME_VALUE} as a whole number of Python (an index of a list, range, a shape); use jnp.take or x[i]"
    if not isinstance(error, jax.errors.ConcretizationTypeError):
        return None
    line = _line(error)
    if "method" not in said and (called := re.search(r"\bmath\.(\w+)\(", line)):
        return f"calls Python's math.{called[1]} on a JAX array; use jnp.{called[1]} or its like in jax.numpy"
    if "The problem arose with" not in said and "method" not in said:
        return (
            f"makes a shape of {_RUNTIME_VALUE} (jnp.nonzero, unique, arange …); choose with jnp.where, or give size= where "
            "there is one"
        )
    return (
        f"makes a Python number of {_RUNTIME_VALUE} (float(), int(), .item(), .tolist(), math); leave it an array, with "
        ".astype(…) and functions of jax.numpy"
    )


def _line(error: BaseException) -> str:
    """The innermost line of the user's code that led to an error; empty where there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.line or "" for frame in reversed(frames) if usercode.is_users(frame.filename)), "")
