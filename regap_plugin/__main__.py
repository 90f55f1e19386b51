"""`python -m regap_plugin`, also behind `torchrun -m`."""

import sys

from regap_plugin.cli import main

if __name__ == "__main__":
    sys.exit(main())
