"""What the sidecar costs, beside Envoy on the same configuration: the method behind `mesh bench`.

Reading order: `resources` (what both proxies are told), `upstream` and `load` (who answers, who asks), `ours` and
`envoy` (how each proxy is started), `compare` (runs in turn, pair by pair, and takes medians). Beside it `control`:
what one change costs a control plane with many services and proxies.

CPU time per request is read from the proxy process alone, so it holds on a busy machine too; requests a second
and latency need the machine to be quiet. With our proxy, Envoy, client and upstream on two cores, the client
takes what the proxy leaves.
"""
