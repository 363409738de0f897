"""Models and traces to and from other formats."""
