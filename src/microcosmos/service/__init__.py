"""What an author writes: Service."""
