"""Infrastructure from code (a later part moves in here)."""
