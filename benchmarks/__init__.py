"""Speed and size against named peers, each in one run: `python -m benchmarks.NAME` from the repository's root."""
