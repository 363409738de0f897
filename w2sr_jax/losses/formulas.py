"""The arithmetic of the per-token losses in `token`, in log space. Useful in losses of your own.

All take `Tokens` (logits float32 [T, V]) and return float32 [T]. The target is picked by comparison, not by gather, so that
logits sharded over the vocabulary stay where they are.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from w2sr_jax.core.errors import UserError
from w2sr_jax.losses.token import Tokens


def log_normalizer(tokens: Tokens) -> Float[Array, " T"]:
    """logsumexp of the logits."""
    return jax.nn.logsumexp(tokens.logits, axis=-1)


def target_logit(tokens: Tokens) -> Float[Array, " T"]:
    vocabulary = jax.lax.broadcasted_iota(tokens.target.dtype, tokens.logits.shape, 1)
    return jnp.sum(jnp.where(vocabulary == tokens.target[:, None], tokens.logits, 0.0), axis=-1)


def target_logprob(tokens: Tokens) -> Float[Array, " T"]:
    """log p, the student's log-probability of the target."""
    return target_logit(tokens) - log_normalizer(tokens)


def label_smoothing(tokens: Tokens, epsilon: float) -> Float[Array, " T"]:
    mean_logprob = jnp.mean(tokens.logits, axis=-1) - log_normalizer(tokens)
    return -(1.0 - epsilon) * target_logprob(tokens) - epsilon * mean_logprob


def generalized_cross_entropy(tokens: Tokens, q: float) -> Float[Array, " T"]:
    logprob = target_logprob(tokens)
    return -logprob if q == 0.0 else -jnp.expm1(q * logprob) / q


def symmetric_cross_entropy(tokens: Tokens, a: float, b: float, log_zero: float) -> Float[Array, " T"]:
    logprob = target_logprob(tokens)
    return -a * logprob + b * log_zero * jnp.expm1(logprob)


def dft(tokens: Tokens) -> Float[Array, " T"]:
    logprob = target_logprob(tokens)
    return -jax.lax.stop_gradient(jnp.exp(logprob)) * logprob


def confidence(tokens: Tokens, coefficient: Float[Array, ""]) -> Float[Array, " T"]:
    # The maximum's derivative is the one-hot vector of the hardened prediction: cross entropy with it, held constant.
    own_logprob = jnp.max(tokens.logits, axis=-1) - log_normalizer(tokens)
    return -(1.0 - coefficient) * target_logprob(tokens) - coefficient * own_logprob


def forward_kl(tokens: Tokens) -> Float[Array, " T"]:
    return _kl(_reference_logprobs(tokens), _logprobs(tokens))


def reverse_kl(tokens: Tokens) -> Float[Array, " T"]:
    return _kl(_logprobs(tokens), _reference_logprobs(tokens))


def jsd(tokens: Tokens, beta: float) -> Float[Array, " T"]:
    p, q = _reference_logprobs(tokens), _logprobs(tokens)
    floor = -1e30  # for entries impossible under both, where logaddexp has no derivative
    mixture = jnp.logaddexp(jnp.maximum(p, floor) + jnp.log(beta), jnp.maximum(q, floor) + jnp.log1p(-beta))
    return beta * _kl(p, mixture) + (1.0 - beta) * _kl(q, mixture)


def entropy(tokens: Tokens) -> Float[Array, " T"]:
    logprobs = _logprobs(tokens)
    return -_expectation(logprobs, logprobs)


def z_loss(tokens: Tokens) -> Float[Array, " T"]:
    return jnp.square(log_normalizer(tokens))


def unlikelihood(tokens: Tokens, floor: float) -> Float[Array, " T"]:
    logprob = jnp.minimum(target_logprob(tokens), jnp.log1p(-floor))
    return -jnp.log(-jnp.expm1(logprob))


def in_spans(span: Int[Array, " T"], reasoning: bool, answer: bool, end: bool) -> Bool[Array, " T"]:
    return ((span == 1) & reasoning) | ((span == 2) & answer) | ((span == 3) & end)


def _logprobs(tokens: Tokens) -> Float[Array, "T V"]:
    return jax.nn.log_softmax(tokens.logits, axis=-1)


def _reference_logprobs(tokens: Tokens) -> Float[Array, "T V"]:
    if tokens.reference is None:
        raise UserError("this loss compares the student with a frozen reference, and none was given")
    return jax.lax.stop_gradient(jax.nn.log_softmax(tokens.reference, axis=-1))


def _kl(p: Float[Array, "T V"], q: Float[Array, "T V"]) -> Float[Array, " T"]:
    """KL(P || Q) from log-probabilities."""
    possible = p > -jnp.inf
    return _expectation(p, jnp.where(possible, p, 0.0) - jnp.where(possible, q, 0.0))


def _expectation(logprobs: Float[Array, "T V"], values: Float[Array, "T V"]) -> Float[Array, " T"]:
    """Of `values` under the distribution; what is impossible does not count, whatever its value."""
    return jnp.sum(jnp.exp(logprobs) * jnp.where(logprobs > -jnp.inf, values, 0.0), axis=-1)
