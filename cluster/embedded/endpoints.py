"""Where do the pods behind a Service listen? For everybody in the API server who calls into the cluster.

Read from EndpointSlices, not by way of the ClusterIP: so it also works where a port below 1024 cannot be
bound, and where all pods share one address. (As kube-apiserver with `--enable-aggregator-routing`.)
"""

import random

from cluster.embedded.status import ApiError, Object, bad_request, unavailable
from cluster.embedded.store import Store

SLICES = "endpointslices.discovery.k8s.io"


def find_port(service: Object, port: str) -> Object:
    """The Service's port of that name or number ("" where it has only one). Raises BadRequest,
    Unavailable.
    """
    ports = service["spec"].get("ports") or []
    name = service["metadata"]["name"]
    if not port and len(ports) == 1:
        return dict(ports[0])
    for candidate in ports:
        if port and port in (candidate.get("name"), str(candidate.get("port"))):
            return dict(candidate)
    listed = ", ".join(f"{p.get('name', '')}:{p.get('port')}" for p in ports)
    if not port:
        raise bad_request(f'service "{name}" has several ports ({listed}); name one as {name}:PORT')
    raise unavailable(f'no service port "{port}" found for service "{name}" (it has {listed or "none"})')


def ready(store: Store, namespace: str, name: str, port: Object) -> list[tuple[str, int]]:
    """(address, port) of each ready endpoint behind a port of a Service."""
    found = []
    for slice_ in store.objects(SLICES, namespace):
        if (slice_["metadata"].get("labels") or {}).get("kubernetes.io/service-name") != name:
            continue
        numbers = [
            p["port"] for p in slice_.get("ports") or [] if (p.get("name") or "") == (port.get("name") or "")
        ]
        for endpoint in slice_.get("endpoints") or []:
            if (endpoint.get("conditions") or {}).get("ready", True) is not False:
                found += [(address, number) for address in endpoint["addresses"] for number in numbers]
    return found


def pick(store: Store, namespace: str, name: str, port: str) -> tuple[str, int]:
    """A random ready endpoint of a Service. Raises NotFound, BadRequest, ServiceUnavailable."""
    service = store.get("services", namespace, name).object
    wanted = find_port(service, port)
    choices = ready(store, namespace, name, wanted)
    if not choices:
        raise none_available(name)
    return random.choice(choices)


def none_available(name: str) -> ApiError:
    return unavailable(f'no endpoints available for service "{name}"')
