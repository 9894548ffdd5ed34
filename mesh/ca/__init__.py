"""The certificate authority: who you are (identity), the mesh's root, what is signed for whom (issue) and
for how long.

Read in the order a certificate comes to be: `identity` (the name), `protocol` (the words on the wire),
`root` (the key that signs), `caller` (whose token is this), `issue` (what is signed for whom, pure), `server`
(the gRPC service), `rotate` (when to come again). What Istio called Citadel and later moved into istiod.
"""
