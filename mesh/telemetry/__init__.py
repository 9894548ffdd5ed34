"""What the mesh saw: access logs in, time series out. (In old Istio this was half of Mixer.)

A request that a proxy has finished travels through the files in this order:

    report.py      takes access log entries from proxies over gRPC (Envoy's access log service)
    directory.py   knows the cluster's pods and services, by watching them: an address becomes a workload
    attributes.py  turns an entry into Istio's metric labels
    series.py      counts by label and time, in bounded memory; answers "how many, when, how fast"
    metrics.py     the same requests as Istio's standard metrics, for Prometheus
    recent.py      the last requests one by one
    query.py       the HTTP API that a notebook reads; graph.py draws the edges between workloads
    app.py         puts them together

Labels and metric names: https://istio.io/latest/docs/reference/config/metrics/
"""
