"""The demo application (Bookinfo's names, our own code) and its visitors.

A page view travels through the files in this order:

    visitors.py     the HTTP API that steers the visitors: plan.py says what they shall do, load.py does it on
                    schedule, stats.py counts what came of it
    productpage.py  GET /productpage: asks details and reviews, has page.py render what they said
    services.py     details, reviews (which asks ratings) and ratings: small JSON services
    client.py       how one service calls another: through its sidecar, passing on the headers that tie hops
                    together

Beneath them, fetch.py is the HTTP client, http.py the server, and serve.py the process around it.

Names, labels, ports and paths are those of Istio's Bookinfo sample, so its VirtualServices and
DestinationRules mean the same here: https://istio.io/latest/docs/examples/bookinfo/
"""
