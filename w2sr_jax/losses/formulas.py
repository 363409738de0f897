"""The arithmetic of the per-token losses in `token`, in log space. Useful in losses of your own.

All take `Tokens` (logits float32 [T, V]) and return float32 [T]. The target is picked by comparison, not by gather, so that
logits sharded over the vocabulary stay where they are.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from w2sr_jax.losses.inputs import INITIAL, Tokens


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


def forward_kl(tokens: Tokens, model: str = INITIAL) -> Float[Array, " T"]:
    return _where_available(tokens, model, _kl(tokens.logprobs_of(model), _logprobs(tokens)))


def reverse_kl(tokens: Tokens, model: str = INITIAL) -> Float[Array, " T"]:
    return _where_available(tokens, model, _kl(_logprobs(tokens), tokens.logprobs_of(model)))


def jsd(tokens: Tokens, model: str = INITIAL, beta: float = 0.5) -> Float[Array, " T"]:
    p, q = tokens.logprobs_of(model), _logprobs(tokens)
    floor = -1e30  # for entries impossible under both, where logaddexp has no derivative
    mixture = jnp.logaddexp(jnp.maximum(p, floor) + jnp.log(beta), jnp.maximum(q, floor) + jnp.log1p(-beta))
    return _where_available(tokens, model, beta * _kl(p, mixture) + (1.0 - beta) * _kl(q, mixture))


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


def _where_available(tokens: Tokens, model: str, losses: Float[Array, " T"]) -> Float[Array, " T"]:
    available = tokens.models[model].available
    return losses if available is None else jnp.where(available, losses, 0.0)


def _kl(p: Float[Array, "T V"], q: Float[Array, "T V"]) -> Float[Array, " T"]:
    """KL(P || Q) from log-probabilities."""
    possible = p > -jnp.inf
    return _expectation(p, jnp.where(possible, p, 0.0) - jnp.where(possible, q, 0.0))


def _expectation(logprobs: Float[Array, "T V"], values: Float[Array, "T V"]) -> Float[Array, " T"]:
    """Of `values` under the distribution; what is impossible does not count, whatever its value."""
    return jnp.sum(jnp.exp(logprobs) * jnp.where(logprobs > -jnp.inf, values, 0.0), axis=-1)
