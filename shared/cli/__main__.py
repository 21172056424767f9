"""`python -m shared.cli` is `tenure`."""

import sys

from shared.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
