"""The sidecar proxy, in the order a request takes."""
