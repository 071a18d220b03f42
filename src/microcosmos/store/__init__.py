"""Records by key."""
