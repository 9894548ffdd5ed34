"""Bodies in Kubernetes' protobuf: what kubectl's `create`, `auth can-i` and other typed Go clients send.

Go's generated clients write protobuf whatever the server would rather have, so it has to be read; answers are
JSON, which they all take. Field types are known from the schemas (`models.py`); what is missing there are the
field numbers, and they are the table below, for the kinds that such clients commonly create. A body with any
other field is refused with a sentence.

The envelope is `k8s\\0` and a `runtime.Unknown` (apimachinery `pkg/runtime/serializer/protobuf`).
"""

import base64
import datetime
from collections.abc import Iterator
from functools import cache
from typing import Any

from cluster.embedded import models
from cluster.embedded.models import REF, resolve
from cluster.embedded.status import ApiError, Object, bad_request

MEDIA = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\0"

NUMBERS = """
V1ConfigMap: metadata data binaryData immutable
V1Secret: metadata data type stringData immutable
V1ServiceAccount: metadata secrets imagePullSecrets automountServiceAccountToken
V1Binding: metadata target
V1Role: metadata rules
V1RoleBinding: metadata subjects roleRef
V1ClusterRole: metadata rules aggregationRule
V1ClusterRoleBinding: metadata subjects roleRef
V1SelfSubjectReview: metadata status
V1Eviction: metadata deleteOptions
V1Lease: metadata spec
V1NamespaceSpec: finalizers
V1PodSpec: volumes containers restartPolicy terminationGracePeriodSeconds activeDeadlineSeconds dnsPolicy
  nodeSelector serviceAccountName serviceAccount nodeName hostNetwork hostPID hostIPC securityContext
  imagePullSecrets hostname subdomain affinity schedulerName initContainers automountServiceAccountToken tolerations
  hostAliases priorityClassName priority dnsConfig shareProcessNamespace readinessGates runtimeClassName
  enableServiceLinks preemptionPolicy overhead topologySpreadConstraints ephemeralContainers setHostnameAsFQDN os
  hostUsers schedulingGates resourceClaims resources hostnameOverride 43 schedulingGroup evictionResponders
V1ServiceSpec: ports selector clusterIP type externalIPs 7 sessionAffinity loadBalancerIP loadBalancerSourceRanges
  externalName externalTrafficPolicy healthCheckNodePort publishNotReadyAddresses sessionAffinityConfig 17
  ipFamilyPolicy clusterIPs ipFamilies allocateLoadBalancerNodePorts loadBalancerClass internalTrafficPolicy
  trafficDistribution
V1ObjectReference: kind namespace name uid apiVersion resourceVersion fieldPath
V1LocalObjectReference: name
V1DeploymentSpec: replicas selector template strategy minReadySeconds revisionHistoryLimit paused 9
  progressDeadlineSeconds
V1ReplicaSetSpec: replicas selector template minReadySeconds
V1JobSpec: parallelism completions activeDeadlineSeconds selector manualSelector template backoffLimit
  ttlSecondsAfterFinished completionMode suspend podFailurePolicy backoffLimitPerIndex maxFailedIndexes
  podReplacementPolicy managedBy successPolicy scheduling
V1PolicyRule: verbs apiGroups resources resourceNames nonResourceURLs
RbacV1Subject: kind apiGroup name namespace
V1RoleRef: apiGroup kind name
V1TokenRequestSpec: audiences 3 boundObjectRef expirationSeconds attestations
V1TokenReviewSpec: token audiences
V1SubjectAccessReviewSpec: resourceAttributes nonResourceAttributes user groups extra uid
V1SelfSubjectAccessReviewSpec: resourceAttributes nonResourceAttributes
V1SelfSubjectRulesReviewSpec: namespace
V1PodDisruptionBudgetSpec: minAvailable selector maxUnavailable unhealthyPodEvictionPolicy
V1ScaleSpec: replicas
V1LeaseSpec: holderIdentity leaseDurationSeconds acquireTime renewTime leaseTransitions strategy preferredHolder
V1Volume: name +VolumeSource
V1Container: name image command args workingDir ports env resources volumeMounts livenessProbe readinessProbe
  lifecycle terminationMessagePath imagePullPolicy securityContext stdin stdinOnce tty envFrom
  terminationMessagePolicy volumeDevices startupProbe resizePolicy restartPolicy restartPolicyRules
V1PodSecurityContext: seLinuxOptions runAsUser runAsNonRoot supplementalGroups fsGroup runAsGroup sysctls
  windowsOptions fsGroupChangePolicy seccompProfile appArmorProfile supplementalGroupsPolicy seLinuxChangePolicy
V1Toleration: key operator value effect tolerationSeconds
V1ResourceRequirements: limits requests claims
V1ServicePort: name protocol port targetPort nodePort appProtocol
V1PodTemplateSpec: metadata spec
V1DeploymentStrategy: type rollingUpdate
V1BoundObjectReference: kind apiVersion name uid
V1ResourceAttributes: namespace verb group version resource subresource name fieldSelector labelSelector
V1NonResourceAttributes: path verb
VolumeSource: hostPath emptyDir 6 secret 10 persistentVolumeClaim 16 downwardAPI 19 configMap 26 projected
V1ContainerPort: name hostPort containerPort protocol hostIP
V1EnvFromSource: prefix configMapRef secretRef
V1EnvVar: name value valueFrom
V1ContainerResizePolicy: resourceName restartPolicy
V1VolumeMount: name readOnly mountPath subPath mountPropagation subPathExpr recursiveReadOnly bindMountOptions
V1VolumeDevice: name devicePath
V1Probe: +ProbeHandler initialDelaySeconds timeoutSeconds periodSeconds successThreshold failureThreshold
  terminationGracePeriodSeconds
V1Lifecycle: postStart preStop stopSignal
V1SecurityContext: capabilities privileged seLinuxOptions runAsUser runAsNonRoot readOnlyRootFilesystem
  allowPrivilegeEscalation runAsGroup procMount windowsOptions seccompProfile appArmorProfile
V1SeccompProfile: type localhostProfile
V1RollingUpdateDeployment: maxUnavailable maxSurge
V1HostPathVolumeSource: path type
V1EmptyDirVolumeSource: medium sizeLimit mode
V1SecretVolumeSource: secretName items defaultMode optional defaultUser
V1PersistentVolumeClaimVolumeSource: claimName readOnly
V1DownwardAPIVolumeSource: items defaultMode defaultUser
V1ConfigMapVolumeSource: +V1LocalObjectReference items defaultMode optional defaultUser
V1ProjectedVolumeSource: sources defaultMode defaultUser
V1ConfigMapEnvSource: +V1LocalObjectReference optional
V1SecretEnvSource: +V1LocalObjectReference optional
V1EnvVarSource: fieldRef resourceFieldRef configMapKeyRef secretKeyRef fileKeyRef
ProbeHandler: exec httpGet tcpSocket grpc
V1LifecycleHandler: exec httpGet tcpSocket sleep
V1Capabilities: add drop
V1KeyToPath: key path mode user
V1DownwardAPIVolumeFile: path fieldRef resourceFieldRef mode user
V1VolumeProjection: secret downwardAPI configMap serviceAccountToken clusterTrustBundle podCertificate
V1ObjectFieldSelector: apiVersion fieldPath
V1ResourceFieldSelector: containerName resource divisor
V1ConfigMapKeySelector: +V1LocalObjectReference key optional
V1SecretKeySelector: +V1LocalObjectReference key optional
V1ExecAction: command
V1HTTPGetAction: path port host scheme httpHeaders protocol
V1TCPSocketAction: port host
V1GRPCAction: port service mode
V1SleepAction: seconds
V1SecretProjection: +V1LocalObjectReference items 4 optional
V1DownwardAPIProjection: items
V1ConfigMapProjection: +V1LocalObjectReference items 4 optional
V1ServiceAccountTokenProjection: audience expirationSeconds path user
V1HTTPHeader: name value
V1ObjectMeta: name generateName namespace selfLink uid resourceVersion generation creationTimestamp deletionTimestamp
  deletionGracePeriodSeconds labels annotations ownerReferences finalizers
V1OwnerReference: kind 3 name uid apiVersion controller blockOwnerDeletion
V1LabelSelector: matchLabels matchExpressions
V1LabelSelectorRequirement: key operator values
V1DeleteOptions: gracePeriodSeconds preconditions orphanDependents propagationPolicy dryRun
V1Preconditions: uid resourceVersion
"""
"""Message: its fields by number from 1 on; a number says that the next field has it; `+X` is inlined into its
parent.
"""

MODELS = {"TokenRequest": "AuthenticationV1TokenRequest", "Event": "CoreV1Event"}
"""Kinds whose class in the Python client is not V1KIND."""

USUAL = "metadata spec status"
"""The fields of a message that the table leaves out."""

KEEP_FALSE = {
    "automountServiceAccountToken",
    "enableServiceLinks",
    "suspend",
    "manualSelector",
    "optional",
    "controller",
}
DROP_ZERO = {"hostPort", "nodePort", "minReadySeconds", "initialDelaySeconds", "timeoutSeconds", "periodSeconds",
             "successThreshold", "failureThreshold", "generation", "healthCheckNodePort", "port"}  # fmt: skip
"""Go writes fields that were not set as zero; these mean nothing when they are 0 (or false)."""


@cache
def _tables() -> dict[str, dict[int, str]]:
    tables: dict[str, dict[int, str]] = {}
    for line in NUMBERS.replace("\n  ", " ").strip().splitlines():
        message, _, names = line.partition(": ")
        tables[message] = _numbered(names)
    return tables


def _numbered(names: str) -> dict[int, str]:
    table, number = {}, 1
    for word in names.split():
        if word.isdecimal():
            number = int(word)
        else:
            table[number] = word
            number += 1
    return table


def fields_of(message: str) -> dict[int, str]:
    """Number -> field name. A message that the table does not have is an object with metadata, spec and
    status.
    """
    return _tables().get(message) or _numbered(USUAL)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _records(data: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, value) of a message: an int, or bytes. Raises ValueError, IndexError."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value - (1 << 64) if value >> 63 else value
        elif kind == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("a field is longer than its message")
            yield tag >> 3, data[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {kind} is not used by Kubernetes")


def decode(data: bytes) -> Object:
    """The object in a body. Raises BadRequest, UnsupportedMediaType."""
    if not data.startswith(MAGIC):
        raise bad_request("the body is no Kubernetes protobuf: it does not start with `k8s\\0`")
    try:
        envelope = dict(_records(data[len(MAGIC) :]))
        head = {number: value.decode() for number, value in _records(envelope.get(1, b""))}
        kind = head.get(2, "")
        object = _message(envelope.get(2, b""), MODELS.get(kind, "V1" + kind), "")
    except FileNotFoundError as error:
        raise ApiError(
            415, "UnsupportedMediaType", f"{kind} is not read from protobuf: send JSON instead"
        ) from error
    except (ValueError, IndexError, AttributeError, TypeError) as error:
        raise bad_request(f"the body is no Kubernetes protobuf: {error}") from error
    return {"apiVersion": head.get(1, ""), "kind": kind} | object


def _message(data: bytes, model: str, path: str, table: str = "") -> Object:
    """Decode a message of a model; `table` names the numbering where it is inlined."""
    schema, numbers = models.resolve(models.ref(model)), fields_of(table or model)
    result: Object = {}
    for number, raw in _records(data):
        name = numbers.get(number)
        if name is None or (not name.startswith("+") and name not in schema["properties"]):
            raise _unknown(model, number, path)
        if name.startswith("+"):
            result |= _message(raw, model, path, name[1:])
        elif name == "status":
            continue
        else:
            _put(result, name, schema["properties"][name], raw, f"{path}.{name}")
    return result


def _unknown(model: str, number: int, path: str) -> ApiError:
    what = f"field {number} of {model.removeprefix('V1')}" + (f" at {path}" if path else "")
    return ApiError(
        415, "UnsupportedMediaType", f"{what} is not read from protobuf by this server: send JSON instead"
    )


def _put(result: Object, name: str, schema: Object, raw: Any, path: str) -> None:
    if schema.get("type") == "array":
        result.setdefault(name, []).append(_value(schema["items"], raw, path))
    elif isinstance(schema.get("additionalProperties"), dict):
        entry = dict(_records(raw))
        values = result.setdefault(name, {})
        values[entry.get(1, b"").decode()] = _value(schema["additionalProperties"], entry.get(2, b""), path)
    else:
        value = _value(schema, raw, path)
        if not _means_nothing(name, value):
            result[name] = value


def _means_nothing(name: str, value: Any) -> bool:
    if value is None or value == "":
        return True
    return (value is False and name not in KEEP_FALSE) or (
        value == 0 and value is not False and name in DROP_ZERO
    )


def _value(schema: Object, raw: Any, path: str) -> Any:
    """One value by its schema."""
    if "$ref" in schema:
        return _message(raw, models.model_of(schema["$ref"].removeprefix(REF)), path)
    schema = resolve(schema)
    if schema.get("x-kubernetes-int-or-string"):
        parts = dict(_records(raw))
        return parts.get(3, b"").decode() if parts.get(1) == 1 else parts.get(2, 0)
    if schema.get("x-kubernetes-quantity"):
        return dict(_records(raw)).get(1, b"").decode()
    match schema.get("type"), schema.get("format"):
        case "string", "date-time":
            return _time(raw)
        case "string", "byte":
            return base64.b64encode(raw).decode()
        case "string", _:
            return raw.decode()
        case "boolean", _:
            return bool(raw)
        case "array", _:
            return [_value(schema["items"], item, path) for _, item in _records(raw)]
    return raw


def _time(raw: bytes) -> str | None:
    seconds = dict(_records(raw)).get(1)
    if seconds is None:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
