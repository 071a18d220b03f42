"""APIs defined by their schema and proven by use-cases (a later part moves in here)."""
