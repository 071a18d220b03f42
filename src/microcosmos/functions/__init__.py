"""Scripts that answer HTTP (part 5 moves in here)."""
