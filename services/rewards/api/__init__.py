"""The HTTP surface of rewards."""
