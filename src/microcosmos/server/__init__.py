"""The supervisor: starts the processes of the local profile and ties the knot."""
