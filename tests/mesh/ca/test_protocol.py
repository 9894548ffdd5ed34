"""The bytes on the wire are those of istio/api's ca.proto."""

from google.protobuf import struct_pb2

from mesh.ca.protocol import CREATE_CERTIFICATE, CertificateRequest, CertificateResponse


def test_field_numbers() -> None:
    request = CertificateRequest(csr="c", validity_duration=5)
    assert request.SerializeToString() == b"\x0a\x01c\x18\x05"
    assert CertificateResponse(cert_chain=["a", "b"]).SerializeToString() == b"\x0a\x01a\x0a\x01b"
    assert CREATE_CERTIFICATE == "/istio.v1.auth.IstioCertificateService/CreateCertificate"


def test_metadata_is_a_struct() -> None:
    metadata = struct_pb2.Struct()
    metadata.update({"a": "b"})
    request = CertificateRequest(csr="c", metadata=metadata)
    assert CertificateRequest.FromString(request.SerializeToString()).metadata["a"] == "b"  # type: ignore[index]
