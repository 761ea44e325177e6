"""Side-by-side measurements of Treue and its peers: `python -m benchmarks`."""
