"""Weak-to-strong reasoning in JAX. Start at `w2sr_jax.cli.main` (commands) or `w2sr_jax.experiment` (what an experiment is)."""

__version__ = "0.1.0"
