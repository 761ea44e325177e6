"""The HTTP surface of points."""
