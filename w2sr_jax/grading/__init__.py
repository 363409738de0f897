"""`w2sr grade`: the verdicts on texts that people have at hand, with all that lets them be doubted."""
