"""Values of written answers: characters, number words, exact arithmetic and units of measure."""
