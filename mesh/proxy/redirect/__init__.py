"""Catches a pod's traffic: kernel rules that send every TCP connection to the sidecar (interception REDIRECT).

Runs once per pod, in the init container, the only one with NET_ADMIN: `python -m mesh.proxy.redirect`. First
`plan` says what is to be caught, then `iptables` or `nftables` puts it into rules (pure), and `__main__` hands
them to the program that the image has. The chains are those of Istio's `istio-iptables`, so that what one learns
here reads the same there.
"""
