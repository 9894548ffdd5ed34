"""Notebook widgets that drive the mesh and show the traffic that really flows."""
