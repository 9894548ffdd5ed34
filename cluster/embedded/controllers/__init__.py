"""The control loops that make a Kubernetes API into a cluster; one file each, all ordinary API clients."""
