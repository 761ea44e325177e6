"""The rules of rewards: pure, exact, time as an argument."""
