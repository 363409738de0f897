"""Stages as values, their manifests, the store that holds what they wrote, and the runner."""
