"""This process as the operating system sees it: signals, exit codes, standard streams, limits, locks."""
