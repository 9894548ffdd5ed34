"""Rules of pods, and of the templates that Deployments, ReplicaSets and Jobs make pods from.

(kubernetes `pkg/apis/core/validation/validation.go`.)
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from cluster.embedded.status import Cause, Object, duplicate, not_supported, required, wrong

LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
ENV_NAME = re.compile(r"^[-._a-zA-Z][-._a-zA-Z0-9]*$")
PORT_NAME = re.compile(r"^(?=.*[a-z])(?!-)(?!.*--)[a-z0-9-]{1,15}(?<!-)$")
PERCENT = re.compile(r"^\d+%$")
QUANTITY = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?$")

LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name', or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
PORT_RULE = "must be between 1 and 65535, inclusive"
PROTOCOLS = ("TCP", "UDP", "SCTP")
PULL = ("Always", "IfNotPresent", "Never")
HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
RESTARTS = ("Always", "OnFailure", "Never")


def items(object: Any, key: str) -> Iterator[tuple[int, Object]]:
    """(index, item) of the objects in a list field."""
    for index, item in enumerate((object or {}).get(key) or []):
        if isinstance(item, dict):
            yield index, item


def port(value: Any, path: str) -> Iterator[Cause]:
    if isinstance(value, int) and not 1 <= value <= 65535:
        yield wrong(path, value, PORT_RULE)


def port_reference(value: Any, path: str) -> Iterator[Cause]:
    """A port by number or name."""
    if isinstance(value, int):
        yield from port(value, path)
    elif isinstance(value, str) and not PORT_NAME.match(value):
        yield wrong(
            path, value, "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-), at most 15"
        )


def share(value: Any, path: str) -> Iterator[Cause]:
    """A number of pods, or a percentage of them."""
    if isinstance(value, str) and not PERCENT.match(value):
        yield wrong(
            path,
            value,
            "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%')",
        )
    elif isinstance(value, int) and value < 0:
        yield wrong(path, value, "must be greater than or equal to 0")


def unique(values: Iterable[tuple[str, Any]]) -> Iterator[Cause]:
    """Duplicates among (path, value)."""
    seen = set()
    for path, value in values:
        if value in seen:
            yield duplicate(path, value)
        seen.add(value)


def spec(pod: Object, path: str, restarts: tuple[str, ...] = RESTARTS) -> Iterator[Cause]:
    """What is wrong with a pod's spec at `path`; `restarts` are the restart policies that its owner allows."""
    if not pod.get("containers"):
        yield required(f"{path}.containers")
    if pod.get("restartPolicy") not in restarts:
        yield not_supported(f"{path}.restartPolicy", pod.get("restartPolicy", ""), restarts)
    if (pod.get("terminationGracePeriodSeconds") or 0) < 0:
        yield wrong(
            f"{path}.terminationGracePeriodSeconds",
            pod["terminationGracePeriodSeconds"],
            "must be at least 0",
        )
    yield from _volumes(pod, path)
    volumes = {volume.get("name") for _, volume in items(pod, "volumes")}
    named = []
    for key in ("initContainers", "containers"):
        for index, container in items(pod, key):
            at = f"{path}.{key}[{index}]"
            named.append((f"{at}.name", container.get("name")))
            yield from _container(container, at, volumes, init=key == "initContainers")
    yield from unique((at, name) for at, name in named if name)


def _volumes(pod: Object, path: str) -> Iterator[Cause]:
    named = []
    for index, volume in items(pod, "volumes"):
        at = f"{path}.volumes[{index}]"
        name = volume.get("name", "")
        named.append((f"{at}.name", name))
        if name and not LABEL.match(name):
            yield wrong(f"{at}.name", name, LABEL_RULE)
        if len(volume) > 2:
            second = sorted(set(volume) - {"name"})[1]
            yield Cause(
                "FieldValueForbidden", "Forbidden: may not specify more than 1 volume type", f"{at}.{second}"
            )
    yield from unique(named)


def _container(container: Object, path: str, volumes: set[Any], *, init: bool) -> Iterator[Cause]:
    name = container.get("name", "")
    if name and not LABEL.match(name):
        yield wrong(f"{path}.name", name, LABEL_RULE)
    if not container.get("image"):
        yield required(f"{path}.image")
    if container.get("imagePullPolicy") not in PULL:
        yield not_supported(f"{path}.imagePullPolicy", container.get("imagePullPolicy", ""), PULL)
    if "restartPolicy" in container and (container["restartPolicy"] != "Always" or not init):
        yield not_supported(f"{path}.restartPolicy", container["restartPolicy"], ["Always"])
    yield from _ports(container, path)
    for index, env in items(container, "env"):
        if env.get("name") and not ENV_NAME.match(env["name"]):
            why = "a valid environment variable name must consist of letters, digits, '_', '-', or '.'"
            yield wrong(f"{path}.env[{index}].name", env["name"], why)
        if env.get("value") and env.get("valueFrom") is not None:
            yield wrong(
                f"{path}.env[{index}].valueFrom", "", "may not be specified when `value` is not empty"
            )
    for index, mount in items(container, "volumeMounts"):
        if mount.get("name") and mount["name"] not in volumes:
            at = f"{path}.volumeMounts[{index}].name"
            yield Cause("FieldValueNotFound", f'Not found: "{mount["name"]}"', at)
    mounts = (
        (f"{path}.volumeMounts[{i}].mountPath", m.get("mountPath"))
        for i, m in items(container, "volumeMounts")
    )
    for cause in unique(mounts):
        yield wrong(cause.field, cause.message.partition('"')[2].rstrip('"'), "must be unique")
    for key in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(key) is not None:
            yield from _probe(container[key], f"{path}.{key}")
    for key in ("limits", "requests"):
        yield from quantities((container.get("resources") or {}).get(key), f"{path}.resources.{key}")


def quantities(values: Any, path: str) -> Iterator[Cause]:
    for key, value in (values or {}).items():
        if not QUANTITY.match(str(value)):
            why = (
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
            )
            yield wrong(f"{path}[{key}]", value, why)


def _ports(container: Object, path: str) -> Iterator[Cause]:
    names = []
    for index, entry in items(container, "ports"):
        at = f"{path}.ports[{index}]"
        if entry.get("name"):
            names.append((f"{at}.name", entry["name"]))
            yield from port_reference(str(entry["name"]), f"{at}.name")
        yield from port(entry.get("containerPort"), f"{at}.containerPort")
        if entry.get("protocol") not in PROTOCOLS:
            yield not_supported(f"{at}.protocol", entry.get("protocol", ""), PROTOCOLS)
    yield from unique(names)


def _probe(probe: Object, path: str) -> Iterator[Cause]:
    found = [key for key in HANDLERS if probe.get(key) is not None]
    if not found:
        yield required(path, "must specify a handler type")
    if len(found) > 1:
        why = "Forbidden: may not specify more than 1 handler type"
        yield Cause("FieldValueForbidden", why, f"{path}.{found[1]}")
    for key in ("httpGet", "tcpSocket", "grpc"):
        if probe.get(key):
            yield from port_reference(probe[key].get("port"), f"{path}.{key}.port")
    for key in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "failureThreshold"):
        if (probe.get(key) or 0) < 0:
            yield wrong(f"{path}.{key}", probe[key], "must be greater than or equal to 0")


CHANGEABLE = ("image",)
FIXED_RULE = (
    "Forbidden: pod updates may not change fields other than `spec.containers[*].image`, "
    "`spec.initContainers[*].image`, `spec.activeDeadlineSeconds`, `spec.tolerations` (only additions to existing "
    "tolerations), `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def fixed(new: Object, old: Object) -> Iterator[Cause]:
    """What an update of a pod's spec may not change."""
    if _frame(new) != _frame(old):
        yield Cause("FieldValueForbidden", FIXED_RULE, "spec")


def _frame(pod: Object) -> Object:
    """A pod's spec without what may change (nodeName is the business of `pods/binding`)."""
    open_ = (
        "activeDeadlineSeconds",
        "tolerations",
        "terminationGracePeriodSeconds",
        "nodeName",
        "schedulingGates",
    )
    frame = {key: value for key, value in pod.items() if key not in open_}
    for key in ("containers", "initContainers"):
        frame[key] = [{k: v for k, v in c.items() if k not in CHANGEABLE} for c in pod.get(key) or []]
    return frame
