"""Run and watch services."""
