"""What a run is required to show, and whether it does."""
