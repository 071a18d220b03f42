"""`python -m microcosmos.cli`: the command line where the command `micro` is not on PATH."""

import sys

from .main import main

sys.exit(main())
