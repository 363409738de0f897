"""Studies: many runs that share what is the same in them, and what they show together."""
