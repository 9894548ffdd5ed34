"""Runs first in every Python that a container execs: gives it the pod's network, as forks of the zygote have it.

This directory stands on PYTHONPATH of each container; the shim is loaded by file, so that the container needs
no other part of the project.
"""

import importlib.util
import os
import pathlib

if os.environ.get("LAB_BIND_ADDRESS"):
    _file = pathlib.Path(__file__).resolve().parent.parent / "shim.py"
    _spec = importlib.util.spec_from_file_location("lab_shim", _file)
    if _spec is not None and _spec.loader is not None:
        _shim = importlib.util.module_from_spec(_spec)
        _spec.loader.exec_module(_shim)
        _shim.install()
