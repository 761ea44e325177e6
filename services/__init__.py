"""Three sibling services with the same rooms: points, tiers, rewards."""
