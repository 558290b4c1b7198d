"""`python -m weighbridge` is `weighbridge`."""

import sys

from weighbridge.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
