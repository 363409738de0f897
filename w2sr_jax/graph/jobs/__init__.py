"""Independent stages side by side, in worker processes of one machine."""
