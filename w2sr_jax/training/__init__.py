"""Training one student: settings, optimizer, the pure step, checkpoints, and the host loop (`loop.fit`) that joins them."""
