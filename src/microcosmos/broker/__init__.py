"""Topics that nobody remembers: publish and subscribe (part 4 moves in here)."""
