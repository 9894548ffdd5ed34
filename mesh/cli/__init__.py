"""The `mesh` command: one module a verb. The composition root: nothing imports it."""

from mesh.cli.main import main

__all__ = ["main"]
