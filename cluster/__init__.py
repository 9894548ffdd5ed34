"""Kubernetes clusters for the lab: embedded, kind, or any kubeconfig."""
