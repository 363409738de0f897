"""What each section of the page shows: rows and charts, ready for its template."""
