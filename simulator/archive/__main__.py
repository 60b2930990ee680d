"""`python -m simulator.archive`."""

import sys

from simulator.archive.server import main

sys.exit(main())
