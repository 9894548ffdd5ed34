"""`python -m mesh.control`: the control plane as a process."""

import sys

from mesh.control.app import main

sys.exit(main())
