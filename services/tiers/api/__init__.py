"""The HTTP surface of tiers."""
