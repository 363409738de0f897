"""Teachers behind a server."""
