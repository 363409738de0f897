"""From traces to examples: which are learned from, how much each counts, and what the selection did."""
