"""Rules of Services and EndpointSlices. (kubernetes `pkg/apis/core/validation`, `pkg/apis/discovery/validation`.)"""

from collections.abc import Iterator

from cluster.embedded import podrules
from cluster.embedded.metarules import labels
from cluster.embedded.podrules import LABEL, LABEL_RULE, PROTOCOLS, items
from cluster.embedded.status import Cause, Object, immutable, not_supported, required, wrong


def service(new: Object, old: Object | None) -> Iterator[Cause]:
    spec = new["spec"]
    kind, ports = spec.get("type"), spec.get("ports") or []
    kinds = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
    if kind not in kinds:
        yield not_supported("spec.type", kind, kinds)
    if kind == "ExternalName" and not spec.get("externalName"):
        yield required("spec.externalName")
    if not ports and kind != "ExternalName" and spec.get("clusterIP") != "None":
        yield required("spec.ports")
    yield from labels(spec.get("selector"), "spec.selector")
    for index, port in items(spec, "ports"):
        yield from _service_port(port, f"spec.ports[{index}]", len(ports) > 1)
    named = items(spec, "ports")
    yield from podrules.unique((f"spec.ports[{i}].name", p["name"]) for i, p in named if p.get("name"))
    pairs = ((f"spec.ports[{i}]", (p.get("port"), p.get("protocol"))) for i, p in items(spec, "ports"))
    yield from podrules.unique(pairs)
    if old is not None and "ExternalName" not in (kind, old["spec"].get("type")):
        yield from _same("spec.clusterIPs[0]", spec.get("clusterIP"), old["spec"].get("clusterIP"))


def _same(path: str, new: object, old: object) -> Iterator[Cause]:
    if new != old:
        yield immutable(path, new)


def _service_port(port: Object, path: str, several: bool) -> Iterator[Cause]:
    if several and not port.get("name"):
        yield required(f"{path}.name")
    if port.get("name") and not LABEL.match(port["name"]):
        yield wrong(f"{path}.name", port["name"], LABEL_RULE)
    yield from podrules.port(port.get("port"), f"{path}.port")
    yield from podrules.port_reference(port.get("targetPort"), f"{path}.targetPort")
    if port.get("protocol") not in PROTOCOLS:
        yield not_supported(f"{path}.protocol", port.get("protocol"), PROTOCOLS)


def endpointslice(new: Object, old: Object | None) -> Iterator[Cause]:
    kinds = ("FQDN", "IPv4", "IPv6")
    if new.get("addressType") not in kinds:
        yield not_supported("addressType", new.get("addressType", ""), kinds)
    if old is not None and new.get("addressType") != old.get("addressType"):
        yield immutable("addressType", new.get("addressType"))
    for index, port in items(new, "ports"):
        yield from podrules.port(port.get("port"), f"ports[{index}].port")
