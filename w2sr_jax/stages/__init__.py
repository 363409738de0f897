"""One file per kind of stage, and what stages share."""
