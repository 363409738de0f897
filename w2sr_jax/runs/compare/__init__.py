"""`w2sr compare`: finished runs side by side."""
