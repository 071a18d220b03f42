"""What happens around every call: one concern, one file."""
