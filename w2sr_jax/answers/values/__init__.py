"""What a written answer is worth: characters, words, exact arithmetic and units of measure."""
