"""Trainings on what the student itself writes: rollouts, their rewards, and the programs that learn from them."""
