"""Decoders: what one is, its parameters, its forward pass in training and in decoding.

A model is a `config.ModelConfig` (frozen, hashable: static under `jit`) and its parameters, a nested dict of arrays. Everything
else works on the two through these functions, and knows no Linen module:

    transformer.init(config, key)                                   -> parameters
    transformer.shapes(config)                                      -> the same tree of jax.ShapeDtypeStruct
    transformer.logical_axes(config)                                -> the same tree of tuples of axis names, for parallel.mesh
    transformer.forward(config, params, tokens, positions, segments, sharding)   [B, L] -> hidden states [B, L, D]
    transformer.output_matrix(config, params)                       -> [D, V]; losses multiply it block by block
    transformer.logits(config, params, hidden)                      [..., D] -> [..., V], float32
    decoding.weights(config, params, positions, kind)               -> parameters as decoding multiplies them
    decoding.empty(config, rows, slots)                             -> a cache; `decoding.resized` changes its slots
    decoding.prefill(config, weights, tokens, lengths, sharding)    [B, L] -> logits [B, V] and the prompts' cache
    decoding.step(config, weights, cache, tokens, positions, sharding)   [B] -> logits [B, V] and the cache with one token more

`lora` and `quantized` make other trees of the parameters, which the same functions take. `grow` makes a larger model
that starts out equal to a smaller one. `hf` reads and writes models of the families of Hugging Face, and says how to add one.
"""
