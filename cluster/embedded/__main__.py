"""`python -m cluster.embedded`: the supervisor of one embedded cluster; see `supervisor.py`."""

import sys

from cluster.embedded.supervisor import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
