"""Which ClusterIP and node port does a Service get? Allocation from the cluster's loopback range.

What is taken is read from the Services in the store each time, so nothing can leak. A range of one address
(where the system has only 127.0.0.1) hands that address to every Service: ports then tell them apart.
"""

import ipaddress
import random

from cluster.embedded.status import ApiError, Cause, Object, internal, invalid, wrong
from cluster.embedded.store import Store

NODE_PORTS = range(30000, 32768)


class Allocator:
    """Gives Services addresses and node ports."""

    def __init__(self, store: Store, service_range: str) -> None:
        self._store = store
        self._network = ipaddress.ip_network(service_range)
        self._next = 1

    @property
    def api_address(self) -> str:
        """The ClusterIP of the `kubernetes` Service: the first of the range."""
        return str(self._network[0] if self._network.num_addresses == 1 else self._network[1])

    def assign(self, service: Object, old: Object | None) -> None:
        """Complete a Service's clusterIP(s) and nodePorts in place. Raises Invalid for what is taken or out
        of range.
        """
        spec = service["spec"]
        if spec.get("type") == "ExternalName":
            return
        address = (
            spec.get("clusterIP") or (old or {}).get("spec", {}).get("clusterIP") or self._free_address()
        )
        if old is None and address != "None":
            self._check_address(service, address)
        spec["clusterIP"], spec["clusterIPs"] = address, [address]
        if spec.get("type") in ("NodePort", "LoadBalancer"):
            self._assign_ports(service, old)
        else:
            self._drop_ports(service, old)

    def _drop_ports(self, service: Object, old: Object | None) -> None:
        """A Service that is no longer of type NodePort gives its ports back; a new one may not ask for any."""
        for index, port in enumerate(service["spec"].get("ports") or []):
            if port.pop("nodePort", None) and (old is None or old["spec"].get("type") == "ClusterIP"):
                why = "Forbidden: may not be used when `type` is 'ClusterIP'"
                raise self._bad(service, Cause("FieldValueForbidden", why, f"spec.ports[{index}].nodePort"))

    def _check_address(self, service: Object, address: str) -> None:
        try:
            inside = ipaddress.ip_address(address) in self._network
        except ValueError:
            inside = False
        if not inside:
            raise self._bad(service, wrong("spec.clusterIPs", address, f"must be in {self._network}"))
        if self._network.num_addresses > 1 and address in self._addresses():
            raise self._bad(service, wrong("spec.clusterIPs", address, "provided IP is already allocated"))

    @staticmethod
    def _bad(service: Object, cause: Cause) -> ApiError:
        return invalid("Service", "", service["metadata"].get("name", ""), [cause])

    def _addresses(self) -> set[str]:
        return {service["spec"].get("clusterIP", "") for service in self._store.objects("services")}

    def _free_address(self) -> str:
        size = self._network.num_addresses
        if size == 1:
            return str(self._network[0])
        taken = self._addresses()
        for _ in range(size):
            self._next = self._next + 1 if self._next + 2 < size else 2
            address = str(self._network[self._next])
            if address not in taken:
                return address
        raise internal(f"services: all addresses of {self._network} are taken; delete a Service")

    def _assign_ports(self, service: Object, old: Object | None) -> None:
        own = (service["metadata"].get("namespace", ""), service["metadata"].get("name", ""))
        taken = {
            port.get("nodePort")
            for entry in self._store.entries("services")
            if entry.key != own
            for port in entry.object["spec"].get("ports") or []
        }
        before = {
            p.get("port"): p.get("nodePort") for p in ((old or {}).get("spec") or {}).get("ports") or []
        }
        for index, port in enumerate(service["spec"].get("ports") or []):
            wanted = port.get("nodePort") or before.get(port["port"])
            at = f"spec.ports[{index}].nodePort"
            if wanted and wanted in taken:
                raise self._bad(service, wrong(at, wanted, "provided port is already allocated"))
            if wanted and wanted not in NODE_PORTS:
                why = "provided port is not in the valid range. The range of valid ports is 30000-32767"
                raise self._bad(service, wrong(at, wanted, why))
            port["nodePort"] = wanted or self._free_port(taken)
            taken.add(port["nodePort"])

    @staticmethod
    def _free_port(taken: set[int | None]) -> int:
        free = [port for port in NODE_PORTS if port not in taken]
        if not free:
            raise internal(
                "services: all node ports 30000-32767 are taken; delete a Service of type NodePort"
            )
        return random.choice(free)
