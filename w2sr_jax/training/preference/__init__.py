"""Training on pairs of a chosen and a rejected text: pairs as packed rows, the reference's log-probabilities, program and
source."""
