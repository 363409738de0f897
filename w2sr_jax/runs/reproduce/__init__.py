"""`w2sr reproduce`: a finished run, or one stage of it, done again and compared."""
