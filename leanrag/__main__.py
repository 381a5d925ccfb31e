"""`python -m leanrag` is the `leanrag` command."""

import sys

from leanrag.cli import main

sys.exit(main())
