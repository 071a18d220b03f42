"""Topics that remember: durable, ordered, replayable events (part 4 moves in here)."""
