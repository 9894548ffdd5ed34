"""The words spoken between a workload and the CA: Istio's gRPC service
`istio.v1.auth.IstioCertificateService`.

    message IstioCertificateRequest {
      string csr = 1;
      int64 validity_duration = 3;
      google.protobuf.Struct metadata = 4;
    }
    message IstioCertificateResponse { repeated string cert_chain = 1; }
    service IstioCertificateService {
      rpc CreateCertificate(IstioCertificateRequest) returns (IstioCertificateResponse);
    }

The field numbers are those of istio/api `security/v1alpha1/ca.proto`, so an Istio agent can talk to our CA
and our sidecar to istiod. Two messages do not merit a protoc step: their descriptors are built here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2
from google.protobuf.message import Message

PACKAGE = "istio.v1.auth"
SERVICE = f"{PACKAGE}.IstioCertificateService"
CREATE_CERTIFICATE = f"/{SERVICE}/CreateCertificate"
"""The method's path, for `channel.unary_unary(...)` and a generic handler."""

_STRING = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
_INT64 = descriptor_pb2.FieldDescriptorProto.TYPE_INT64
_MESSAGE = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
_ONE = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
_MANY = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED


def _file() -> descriptor_pb2.FileDescriptorProto:
    """The `.proto` file above as a descriptor."""
    file = descriptor_pb2.FileDescriptorProto(
        name="security/v1alpha1/ca.proto",
        package=PACKAGE,
        syntax="proto3",
        dependency=[struct_pb2.DESCRIPTOR.name],
    )
    request = file.message_type.add(name="IstioCertificateRequest")
    request.field.add(name="csr", number=1, type=_STRING, label=_ONE)
    request.field.add(name="validity_duration", number=3, type=_INT64, label=_ONE)
    request.field.add(
        name="metadata", number=4, type=_MESSAGE, label=_ONE, type_name=".google.protobuf.Struct"
    )
    response = file.message_type.add(name="IstioCertificateResponse")
    response.field.add(name="cert_chain", number=1, type=_STRING, label=_MANY)
    service = file.service.add(name="IstioCertificateService")
    service.method.add(
        name="CreateCertificate",
        input_type=f".{PACKAGE}.IstioCertificateRequest",
        output_type=f".{PACKAGE}.IstioCertificateResponse",
    )
    return file


if TYPE_CHECKING:

    class CertificateRequest(Message):
        """A CSR in PEM and the life asked for, in whole seconds (0: what the CA likes)."""

        csr: str
        validity_duration: int
        metadata: struct_pb2.Struct

        def __init__(
            self, *, csr: str = ..., validity_duration: int = ..., metadata: struct_pb2.Struct | None = ...
        ) -> None: ...

    class CertificateResponse(Message):
        """The chain in PEM: the workload's certificate first, the mesh's root last."""

        cert_chain: Sequence[str]

        def __init__(self, *, cert_chain: Sequence[str] = ...) -> None: ...

else:
    _POOL = descriptor_pool.Default()
    _POOL.AddSerializedFile(_file().SerializeToString())
    CertificateRequest = message_factory.GetMessageClass(
        _POOL.FindMessageTypeByName(f"{PACKAGE}.IstioCertificateRequest")
    )
    CertificateResponse = message_factory.GetMessageClass(
        _POOL.FindMessageTypeByName(f"{PACKAGE}.IstioCertificateResponse")
    )
