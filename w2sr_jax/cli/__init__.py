"""The commands: each parses its arguments, calls, prints."""
