"""The tiers service."""
