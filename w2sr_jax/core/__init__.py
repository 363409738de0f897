"""What every layer stands on: files, records, errors, keys, other people's code. Knows nothing of weak-to-strong reasoning."""
