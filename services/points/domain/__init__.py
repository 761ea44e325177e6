"""The rules of points: pure, exact, time as an argument."""
