"""`python -m leanrag` is the `leanrag` command."""

import sys

from leanrag.cli.main import main

sys.exit(main())
