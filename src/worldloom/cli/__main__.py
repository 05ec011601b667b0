"""`python -m worldloom.cli VERB ...`."""

import sys

from worldloom.cli import main

sys.exit(main())
