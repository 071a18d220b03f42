"""The host of functions: decides which worker runs what, and does for it what it may not."""
