"""All that can be known of an experiment before anything is computed, and rehearsals of it."""
