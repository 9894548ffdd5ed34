"""The kubelet: makes pods that are bound to this node into processes, and says how they are.

Read in the order of a pod's life: `app` hears of the pod and starts its `worker`; `plan` decides what to do
next (pure); `volumes` and `environment` prepare what the container sees; `runtime` has the zygote fork it;
`probes` ask how it is; `status` (pure) puts that into Kubernetes' words; `stop` ends it with grace.
"""
