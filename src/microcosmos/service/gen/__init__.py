"""Clients made of the registry: Python, TypeScript, and types for editors."""
