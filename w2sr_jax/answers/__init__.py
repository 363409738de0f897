"""Text in, verdict out: find the answer in a text, compare it with gold, check arithmetic steps."""
