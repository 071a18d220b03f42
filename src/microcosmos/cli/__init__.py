"""The command micro."""
