"""Where traces come from: drawn from a model, or recorded in a file."""
