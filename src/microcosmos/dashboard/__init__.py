"""Pages in a browser (a later part moves in here)."""
