"""Copies of questions: the same question in another dress, or in nearly the same words."""
