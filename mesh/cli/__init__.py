"""The `mesh` command: one module a verb. The composition root: it may import everything, nothing imports it."""
