"""From examples to the arrays of a training step: encode, pack into rows, and address batches by step."""
