"""What an experiment will take on devices that need not be here: memory, operations, hours, money (`w2sr plan`)."""
