"""Speed and size against named peers, each in one run: `python -m benchmarks.NAME` from the repository's root."""

import emonet as emonet  # before torch: says how its threads wait
