"""The control plane: from Kubernetes objects to Envoy xDS."""
