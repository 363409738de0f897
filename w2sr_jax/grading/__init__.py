"""`w2sr grade`: verdicts on the texts of a file, compared with labels and with a second opinion."""
