"""Who is behind an address: pods and services of the cluster, indexed for the questions telemetry asks.

What Mixer's kubernetesenv adapter did: proxies report addresses, and the Kubernetes API knows whose they
are. A proxy so need not be ours to be understood. Pure: `app` feeds it what a watch of the API brings.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

UNKNOWN = "unknown"
CLUSTER_DOMAIN = "cluster.local"

# A pod's last report may come after the pod is gone, so the gone stay known until this many more have gone.
GONE_REMEMBERED = 500

Object = Mapping[str, Any]
Key = tuple[str, str]  # namespace, name


class Workload(NamedTuple):
    """What a pod stands for: its Deployment (or other owner), and the labels Istio's metrics carry."""

    name: str = UNKNOWN
    namespace: str = UNKNOWN
    app: str = UNKNOWN
    version: str = UNKNOWN
    service_account: str = ""


class Service(NamedTuple):
    """A Service as a destination: its host name, and which pods on which ports it means."""

    name: str
    namespace: str
    selector: tuple[tuple[str, str], ...]
    target_ports: tuple[int | str, ...]

    @property
    def host(self) -> str:
        """The full name, as in Istio's label `destination_service`."""
        return f"{self.name}.{self.namespace}.svc.{CLUSTER_DOMAIN}"


class Pod(NamedTuple):
    """A pod, reduced to what is asked about it."""

    key: Key
    addresses: tuple[str, ...]
    labels: Mapping[str, str]
    port_names: Mapping[str, int]
    workload: Workload


UNKNOWN_WORKLOAD = Workload()


def workload_name(metadata: Object) -> str:
    """The name of a pod's workload, from its owner: a ReplicaSet's Deployment, another owner, or the pod
    itself.

    A ReplicaSet of a Deployment is named after it plus the hash that label `pod-template-hash` repeats.
    """
    owners = [owner for owner in metadata.get("ownerReferences") or () if owner.get("controller")]
    if not owners:
        return str(metadata["name"])
    name = str(owners[0]["name"])
    hash_label = (metadata.get("labels") or {}).get("pod-template-hash")
    if owners[0].get("kind") == "ReplicaSet" and hash_label:
        return name.removesuffix(f"-{hash_label}")
    return name


def read_pod(obj: Object) -> Pod:
    """A Pod object of the Kubernetes API, reduced."""
    metadata, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    labels = metadata.get("labels") or {}
    namespace = metadata.get("namespace", "")
    addresses = {ip["ip"]: None for ip in status.get("podIPs") or () if ip.get("ip")}
    if status.get("podIP") and not spec.get("hostNetwork"):
        addresses[status["podIP"]] = None
    ports = (port for container in spec.get("containers") or () for port in container.get("ports") or ())
    return Pod(
        key=(namespace, metadata["name"]),
        addresses=tuple(addresses) if not spec.get("hostNetwork") else (),
        labels=labels,
        port_names={port["name"]: port["containerPort"] for port in ports if port.get("name")},
        workload=Workload(
            name=workload_name(metadata),
            namespace=namespace,
            app=labels.get("app") or labels.get("app.kubernetes.io/name") or UNKNOWN,
            version=labels.get("version") or labels.get("app.kubernetes.io/version") or UNKNOWN,
            service_account=spec.get("serviceAccountName") or "default",
        ),
    )


def read_service(obj: Object) -> Service:
    """A Service object of the Kubernetes API, reduced."""
    metadata, spec = obj["metadata"], obj.get("spec") or {}
    return Service(
        name=metadata["name"],
        namespace=metadata.get("namespace", ""),
        selector=tuple(sorted((spec.get("selector") or {}).items())),
        target_ports=tuple(port.get("targetPort") or port["port"] for port in spec.get("ports") or ()),
    )


def read_slice(obj: Object) -> dict[tuple[str, int], Key]:
    """Which pod serves at which address and port, by an EndpointSlice."""
    found: dict[tuple[str, int], Key] = {}
    ports = [port["port"] for port in obj.get("ports") or () if port.get("port")]
    for endpoint in obj.get("endpoints") or ():
        target = endpoint.get("targetRef") or {}
        if target.get("kind") == "Pod":
            key = (target.get("namespace") or obj["metadata"]["namespace"], target["name"])
            found |= {(address, port): key for address in endpoint["addresses"] for port in ports}
    return found


class Directory:
    """Pods and services by whatever a report may name them. `version` rises with every change."""

    def __init__(self) -> None:
        self.version = 0
        self._pods: dict[Key, Pod] = {}
        self._by_address: dict[str, Pod] = {}
        self._by_place: dict[tuple[str, int], Key] = {}
        self._slices: dict[Key, dict[tuple[str, int], Key]] = {}
        self._gone: dict[Key, Pod] = {}
        self._services: dict[Key, Service] = {}

    def change_pods(self, changes: Mapping[Key, Object | None]) -> None:
        """Take in changed pods; None stands for one that is gone."""
        for key, obj in changes.items():
            if obj is None:
                if key in self._pods:
                    self._remember_gone(self._pods.pop(key))
                continue
            pod = self._pods[key] = read_pod(obj)
            self._gone.pop(key, None)
            # A finished pod (of a Job) keeps its status.podIP while another pod may already have the address.
            if (obj.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
                self._by_address.update(dict.fromkeys(pod.addresses, pod))
        self.version += 1

    def change_slices(self, changes: Mapping[Key, Object | None]) -> None:
        """Take in changed EndpointSlices; None stands for one that is gone.

        They tell pods apart that share an address: those on the host's network, and all of them in an embedded
        cluster that has only 127.0.0.1.
        """
        for key, obj in changes.items():
            for place in self._slices.pop(key, ()):
                self._by_place.pop(place, None)
            if obj is not None:
                self._slices[key] = read_slice(obj)
                self._by_place.update(self._slices[key])
        self.version += 1

    def change_services(self, changes: Mapping[Key, Object | None]) -> None:
        """Take in changed services; None stands for one that is gone."""
        for key, obj in changes.items():
            if obj is None:
                self._services.pop(key, None)
            else:
                self._services[key] = read_service(obj)
        self.version += 1

    def _remember_gone(self, pod: Pod) -> None:
        self._gone[pod.key] = pod
        if len(self._gone) > GONE_REMEMBERED:
            forgotten = self._gone.pop(next(iter(self._gone)))
            for address in forgotten.addresses:
                if self._by_address.get(address) is forgotten:
                    del self._by_address[address]

    def pod_at(self, address: str, port: int = 0) -> Pod | None:
        """The pod that serves at this place, or that has (or last had) this IP address."""
        key = self._by_place.get((address, port))
        return (self.pod_named(*key) if key else None) or self._by_address.get(address)

    def pod_named(self, namespace: str, name: str) -> Pod | None:
        """The pod of this name, also for a while after it is gone."""
        return self._pods.get((namespace, name)) or self._gone.get((namespace, name))

    def only_workload_of(self, namespace: str, service_account: str) -> Workload | None:
        """The workload that runs as this service account, if there is exactly one."""
        found = {
            pod.workload
            for pod in self._pods.values()
            if pod.workload.namespace == namespace and pod.workload.service_account == service_account
        }
        return found.pop() if len(found) == 1 else None

    def service_of_host(self, host: str, namespace: str) -> Service | None:
        """The service somebody in `namespace` means by a host name as in HTTP's Host, with or without port:
        name, name.namespace, name.namespace.svc or the full name.
        """
        parts = host.rpartition(":")[0].split(".") if ":" in host else host.split(".")
        if len(parts) > 2 and parts[2:] not in (["svc"], ["svc", *CLUSTER_DOMAIN.split(".")]):
            return None
        return self._services.get((parts[1] if len(parts) > 1 else namespace, parts[0]))

    def service_of_pod(self, pod: Pod, port: int, host: str = "") -> Service | None:
        """The service through which a request came to a port of a pod: the one that was asked for by name, if
        it selects this pod, else the first (by name) that selects the pod and port.
        """
        named = self.service_of_host(host, pod.workload.namespace) if host else None
        if named is not None and _selects(named, pod):
            return named
        found = [
            service
            for service in self._services.values()
            if _selects(service, pod) and _serves(service, pod, port)
        ]
        return min(found, default=None)


def _selects(service: Service, pod: Pod) -> bool:
    return (
        service.namespace == pod.workload.namespace
        and bool(service.selector)
        and all(pod.labels.get(name) == value for name, value in service.selector)
    )


def _serves(service: Service, pod: Pod, port: int) -> bool:
    return any(
        port == (pod.port_names.get(target) if isinstance(target, str) else target)
        for target in service.target_ports
    )
