"""Reads the ConfigMap `mesh`: YAML with the names of MeshConfig in Istio. Beside `ingest`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from mesh.control.settings import ExtAuthz, MeshConfig


class ConfigError(ValueError):
    """The mesh's own configuration cannot be used; the message names the field."""


def mesh_config(text: str) -> MeshConfig:
    """The ConfigMap's `mesh` key (YAML, names of Istio's MeshConfig). Raises ConfigError."""
    try:
        said = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"mesh: not YAML: {error}") from error
    if not isinstance(said, dict):
        raise ConfigError("mesh: must be a mapping")
    policy = (said.get("outboundTrafficPolicy") or {}).get("mode", "ALLOW_ANY")
    if policy not in ("ALLOW_ANY", "REGISTRY_ONLY"):
        raise ConfigError(f"outboundTrafficPolicy.mode: {policy!r} is neither ALLOW_ANY nor REGISTRY_ONLY")
    interception = said.get("interception", "NONE")
    if interception not in ("NONE", "REDIRECT"):
        raise ConfigError(f"interception: {interception!r} is neither NONE nor REDIRECT")
    return MeshConfig(
        trust_domain=str(said.get("trustDomain", "cluster.local")),
        root_namespace=str(said.get("rootNamespace", "mesh-system")),
        outbound_traffic_policy=policy,
        interception=interception,
        access_log_service=_access_log_service(said),
        log_providers=_providers(said, "envoyHttpAls"),
        trace_providers=_providers(said, "opentelemetry"),
        trace_service=_default_tracer(said),
        trust_domain_aliases=tuple(str(each) for each in said.get("trustDomainAliases") or ()),
        ext_authz=tuple(_ext_authz_providers(said)),
        connect_timeout=seconds(str(said.get("connectTimeout", "10s"))),
        enable_auto_mtls=bool(said.get("enableAutoMtls", True)),
        trusted_proxies=_trusted_proxies(said),
    )


def _trusted_proxies(said: Mapping[str, Any]) -> int:
    topology = (said.get("defaultConfig") or {}).get("gatewayTopology") or {}
    number = topology.get("numTrustedProxies", 0)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= 100:
        raise ConfigError(
            f"defaultConfig.gatewayTopology.numTrustedProxies: {number!r} is no number of proxies"
        )
    return number


def _access_log_service(said: Mapping[str, Any]) -> tuple[str, int] | None:
    """The provider that `defaultProviders.accessLogging` names, among `extensionProviders`."""
    names = (said.get("defaultProviders") or {}).get("accessLogging") or []
    for provider in said.get("extensionProviders") or []:
        found = provider.get("envoyHttpAls")
        if provider.get("name") in names and found:
            return str(found["service"]), int(found["port"])
    if names:
        raise ConfigError(
            f"defaultProviders.accessLogging: no envoyHttpAls provider of the name {names[0]!r}"
        )
    return None


def _providers(said: Mapping[str, Any], kind: str) -> tuple[tuple[str, tuple[str, int]], ...]:
    """Name and address of every extension provider of a kind."""
    listed = (each for each in said.get("extensionProviders") or [] if each.get(kind))
    return tuple(
        (str(each["name"]), (str(each[kind]["service"]), int(each[kind]["port"]))) for each in listed
    )


def _default_tracer(said: Mapping[str, Any]) -> tuple[str, int] | None:
    """The provider that `defaultProviders.tracing` names. Raises ConfigError."""
    names = (said.get("defaultProviders") or {}).get("tracing") or []
    known = dict(_providers(said, "opentelemetry"))
    for name in names:
        if name not in known:
            raise ConfigError(f"defaultProviders.tracing: no opentelemetry provider of the name {name!r}")
        return known[name]
    return None


def _ext_authz_providers(said: Mapping[str, Any]) -> Iterable[ExtAuthz]:
    """The services AuthorizationPolicies with action CUSTOM may name. Raises ConfigError."""
    for provider in said.get("extensionProviders") or []:
        for key in ("envoyExtAuthzHttp", "envoyExtAuthzGrpc"):
            if found := provider.get(key):
                yield _ext_authz(str(provider.get("name") or ""), found, http=key.endswith("Http"))


def _ext_authz(name: str, said: Mapping[str, Any], *, http: bool) -> ExtAuthz:
    body = said.get("includeRequestBodyInCheck") or {}
    try:
        return ExtAuthz(
            name=name,
            service=str(said["service"]).rpartition("/")[2],
            port=int(said["port"]),
            http=http,
            timeout=seconds(str(said.get("timeout", "600s"))),
            fail_open=bool(said.get("failOpen", False)),
            status_on_error=int(said.get("statusOnError") or 403),
            path_prefix=str(said.get("pathPrefix") or ""),
            request_headers=tuple(said.get("includeRequestHeadersInCheck") or ()),
            extra_headers=tuple(sorted((said.get("includeAdditionalHeadersInCheck") or {}).items())),
            to_upstream=tuple(said.get("headersToUpstreamOnAllow") or ()),
            to_client_on_deny=tuple(said.get("headersToDownstreamOnDeny") or ()),
            to_client_on_allow=tuple(said.get("headersToDownstreamOnAllow") or ()),
            body_bytes=int(body.get("maxRequestBytes") or 0),
            partial_body=bool(body.get("allowPartialMessage", False)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"extensionProviders: {name!r}: {error!r}") from error


_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")


def seconds(duration: str) -> float:
    """A Go duration (`24h`, `1m30s`, `0.5s`) in seconds. Raises ConfigError."""
    match = _DURATION.fullmatch(duration)
    if not duration or match is None:
        raise ConfigError(f"{duration!r} is not a duration such as 24h, 1m30s or 0.5s")
    hours, minutes, rest = match.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(rest or 0)
