"""A service mesh in Python: control plane, sidecar proxy, certificate authority, telemetry and policy."""
