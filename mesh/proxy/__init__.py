"""The sidecar proxy, in the order a request takes.

Read it with the tour in `mesh/README.md`, "Life of a request". Three strands:

* **A request**: `listener` accepts a connection and chooses its filter chain, `tls_stream` decrypts, `codec` parses,
  `exchange` is the request from here to its last byte, `edge` cleans its headers, `routes` finds its route, `filters`
  judge it, `router` sends it on: to a `cluster`, one of its endpoints (`selection`, `balancer`), a connection of the
  endpoint's `pool`, and brings the answer from `upstream` back. `metrics` and `access_log` hear of it at the end.
* **A change of configuration**: `xds` moves messages (over `rpc`), `subscription` accepts or refuses them, `config`
  turns protobuf into immutable objects, `runtime` puts those in force. The first strand never looks at protobuf.
* **Identity**: `identity` makes a key and fetches a certificate, again half-way through its life; `tls` makes contexts
  of it and checks who the other side is.

`app` wires them on one page; `admin` shows what is going on.

Words, as Envoy has them. Downstream is the client, upstream the server. A *listener* has *filter chains*; an HTTP
filter chain is a *connection manager* (`hcm`). A *cluster* is a named set of *endpoints*. A *spec* is what xDS said;
what runs by it has no such suffix. A *flag* (`reply.Flag`) is Envoy's short word for why an answer is not the app's.

No module starts a thread, a loop or a connection when it is imported: pods are forked from a process that has
imported them all.
"""
