"""`python -m regap_benchmarks`: the same as the command `regap-bench`."""

import sys

from regap_benchmarks.cli import main

if __name__ == "__main__":
    sys.exit(main())
