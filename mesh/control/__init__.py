"""The control plane: from Kubernetes objects to Envoy xDS. What Istio called Pilot, now part of istiod.

Read it in the order a config change takes:

- `kube`, `watch`: a copy of each collection of the Kubernetes API, and what changes in it
- `ingest`: a Kubernetes dict becomes a record; `assemble`: records become the next `world`, one immutable value
- `debounce`: when to act on changes
- `publish`: for each proxy, `compile` the world to resources, take a `snapshot`, let its `stream` decide what to send
- `server`: the gRPC around it, and who may ask for what (`auth`)

Beside that way: `webhooks` (what may be stored at all; `inject` gives pods their sidecar, `analyze` finds doubtful
references), `status` (what became of a rule), `trust` and `serving` (certificates), `monitor` (what the control plane
tells of itself). `app` shows how all is put together.

Words: a *rule* is an object of Istio's kinds; a *proxy* is a sidecar or gateway with its stream; *sent*, *accepted*
and *refused* is what has become of a response; a *snapshot* is all that one proxy is to have.
"""
