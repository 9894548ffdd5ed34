"""The Kubernetes manifests that install the mesh and the shop."""
