"""Copies of questions: the same question with other boilerplate or in another spelling, or in nearly the same words."""
