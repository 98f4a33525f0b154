"""Entry point of the command `emonet`: a Ctrl-C while it is still importing ends it without a traceback."""

from __future__ import annotations

import sys


def main() -> int:
    """Import the command line and run it; for what it returns see `experiments.cli.main`."""
    try:
        from experiments.cli.verbs import main as run

        return run()
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130
