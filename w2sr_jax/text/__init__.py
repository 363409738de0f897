"""From text to tokens: tokenizers, the one renderer for sampling, training and evaluation, and the marks of its spans."""
