"""`python -m w2sr_jax.cli`."""

from w2sr_jax.cli.main import main

main()
