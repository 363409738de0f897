"""Decoder-only transformers as pure functions. `config` says what a model is, `transformer` computes it."""
