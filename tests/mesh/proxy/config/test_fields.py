"""A proxy alone in its process, as on Kubernetes, knows every type that may come packed in an Any."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import mesh.proxy.__main__
from google.protobuf import symbol_database
from mesh.proxy.config.fields import HARMLESS, HONOURED
for name in {**HONOURED, **HARMLESS}:
    symbol_database.Default().GetSymbol(name)
"""


def test_every_honoured_type_is_known_to_a_process_that_runs_only_the_proxy() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
