"""Settings and secrets, by dot path (part 3 moves in here)."""
