"""Who is alive, with which endpoints."""
