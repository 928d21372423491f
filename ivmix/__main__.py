"""`python -m ivmix` is the `ivmix` command."""

import sys

from ivmix.cli import main

if __name__ == "__main__":
    sys.exit(main())
