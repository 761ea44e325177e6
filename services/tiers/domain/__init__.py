"""The rules of tiers: pure, exact, time as an argument."""
