"""Telemetry: what is logged and traced, and where. Source: istio.io, Reference, Telemetry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from pydantic import Field

from mesh.api.log_filter import parse_filter
from mesh.api.model import Model, WorkloadSelector
from mesh.api.problems import Problem
from mesh.api.scalars import Bool, PercentValue, header_problem

Mode = Literal["CLIENT_AND_SERVER", "CLIENT", "SERVER"]


class ProviderRef(Model):
    """One of the mesh config's extensionProviders."""

    name: str = Field(min_length=1)


class ModeSelector(Model):
    mode: Mode = "CLIENT_AND_SERVER"


class LogFilter(Model):
    """Only requests for which the expression holds are logged."""

    expression: str = ""

    def check(self) -> Iterator[Problem]:
        try:
            parse_filter(self.expression)
        except ValueError as error:
            yield Problem("expression", str(error))


class AccessLogging(Model):
    match: ModeSelector | None = None
    providers: tuple[ProviderRef, ...] = ()
    disabled: Bool | None = None
    filter: LogFilter | None = None


class LiteralTag(Model):
    value: str = Field(min_length=1)


class RequestHeader(Model):
    name: str = Field(min_length=1)
    default_value: str = ""

    def check(self) -> Iterator[Problem]:
        if self.name and (wrong := header_problem(self.name.removeprefix(":"))):
            yield Problem("name", wrong)


class Environment(Model):
    name: str = Field(min_length=1)
    default_value: str = ""


class CustomTag(Model):
    unsupported: ClassVar[Mapping[str, str]] = {
        "formatter": "write a literal, a header or an environment variable"
    }

    literal: LiteralTag | None = None
    environment: Environment | None = None
    header: RequestHeader | None = None

    def check(self) -> Iterator[Problem]:
        if sum(each is not None for each in (self.literal, self.environment, self.header)) != 1:
            yield Problem("", "needs exactly one of literal, environment and header")


class Tracing(Model):
    """Which share of requests is traced, and what each span says besides."""

    unsupported: ClassVar[Mapping[str, str]] = {
        "useRequestIdForTraceSampling": "the decision travels in the trace context",
        "enableIstioTags": "",
        "disableContextPropagation": "",
    }

    match: ModeSelector | None = None
    providers: tuple[ProviderRef, ...] = ()
    random_sampling_percentage: PercentValue | None = None
    disable_span_reporting: Bool | None = None
    custom_tags: dict[str, CustomTag] = Field(default_factory=dict)

    def check(self) -> Iterator[Problem]:
        if len(self.providers) > 1:
            yield Problem("providers", "can name one provider only, as in Istio")


class TelemetrySpec(Model):
    """For the workloads selected, else the namespace, else (in the root namespace) the mesh."""

    unsupported: ClassVar[Mapping[str, str]] = {
        "metrics": "sidecars report Istio's standard metrics as they are",
        "targetRef": "",
        "targetRefs": "",
    }

    selector: WorkloadSelector | None = None
    access_logging: tuple[AccessLogging, ...] = ()
    tracing: tuple[Tracing, ...] = ()

    def check(self) -> Iterator[Problem]:
        if len(self.tracing) > 1:
            yield Problem("tracing", "can have one entry only, as in Istio")
