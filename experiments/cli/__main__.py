"""`python -m experiments.cli` is the command `emonet`."""

import sys

from experiments.cli.entry import main

sys.exit(main())
