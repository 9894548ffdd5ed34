"""The `mesh` command: one module a verb. The composition root: nothing imports it."""
