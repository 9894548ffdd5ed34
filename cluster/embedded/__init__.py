"""A Kubernetes cluster in a few processes: API server, controllers, kubelet, network."""
