"""From text to tokens: tokenizers, chat templates, the one renderer for sampling, training and evaluation, and its spans."""
