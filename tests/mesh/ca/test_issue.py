"""What the CA signs and what it refuses."""

import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from mesh.ca.identity import Identity
from mesh.ca.issue import BACKDATE, Lifetimes, RefusedError, issue, issue_server
from mesh.ca.root import new_root

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
ROOT = new_root("cluster.local", NOW)
KEY = ec.generate_private_key(ec.SECP256R1())
REVIEWS = Identity("cluster.local", "default", "bookinfo-reviews")
HOUR = timedelta(hours=1)


def csr(*uris: str, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = KEY) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if uris:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def leaf(chain: list[str]) -> x509.Certificate:
    return x509.load_pem_x509_certificate(chain[0].encode())


def test_certificate_carries_the_identity_and_the_requested_key() -> None:
    chain = issue(ROOT, csr(), REVIEWS, HOUR, NOW)
    certificate = leaf(chain)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical and list(names.value) == [x509.UniformResourceIdentifier(REVIEWS.uri)]
    assert certificate.public_key() == KEY.public_key()
    assert (certificate.not_valid_before_utc, certificate.not_valid_after_utc) == (NOW - BACKDATE, NOW + HOUR)
    certificate.verify_directly_issued_by(ROOT.certificate)
    assert chain[-1] == ROOT.certificate_pem


def test_certificate_is_no_authority_itself() -> None:
    certificate = leaf(issue(ROOT, csr(), REVIEWS, HOUR, NOW))
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign is False


def test_openssl_style_verification_accepts_the_chain() -> None:
    chain = issue_server(ROOT, KEY.public_key(), ["mesh-control.mesh-system.svc"], HOUR, NOW)
    verifier = (
        x509.verification.PolicyBuilder()
        .store(x509.verification.Store([ROOT.certificate]))
        .time(NOW)
        .build_server_verifier(x509.DNSName("mesh-control.mesh-system.svc"))
    )
    verifier.verify(leaf(chain), [])


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ["spiffe://cluster.local/ns/default/sa/bookinfo-ratings"],
            "its sender is spiffe://cluster.local/ns/default",
        ),
        ([REVIEWS.uri, "spiffe://other/ns/default/sa/bookinfo-reviews"], "claims 'spiffe://other"),
        (["https://example.com"], "claims 'https://example.com'"),
    ],
)
def test_another_name_is_refused(names: list[str], said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        issue(ROOT, csr(*names), REVIEWS, HOUR, NOW)


def test_own_name_is_accepted() -> None:
    issue(ROOT, csr(REVIEWS.uri), REVIEWS, HOUR, NOW)


def test_rsa_key_is_accepted_and_weak_keys_are_not() -> None:
    issue(ROOT, csr(key=rsa.generate_private_key(65537, 2048)), REVIEWS, HOUR, NOW)
    for weak in (rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP224R1())):
        with pytest.raises(RefusedError, match="ECDSA P-256 or RSA 2048"):
            issue(ROOT, csr(key=weak), REVIEWS, HOUR, NOW)


def test_tampered_request_is_refused() -> None:
    request = x509.load_pem_x509_csr(csr())
    raw = bytearray(request.public_bytes(serialization.Encoding.DER))
    raw[-1] ^= 1
    text = ssl.DER_cert_to_PEM_cert(bytes(raw)).replace("CERTIFICATE", "CERTIFICATE REQUEST")
    with pytest.raises(RefusedError):
        issue(ROOT, text, REVIEWS, HOUR, NOW)


@given(st.one_of(st.text(), st.binary()))
def test_garbage_is_refused_with_a_sentence(garbage: str | bytes) -> None:
    with pytest.raises(RefusedError, match="csr"):
        issue(ROOT, garbage, REVIEWS, HOUR, NOW)


@given(st.integers(-(2**63), 2**63 - 1))
def test_life_is_granted_within_bounds_or_refused(asked: int) -> None:
    lifetimes = Lifetimes(default=timedelta(hours=24), longest=timedelta(days=1))
    try:
        granted = lifetimes.grant(asked)
    except RefusedError:
        assert asked < 0 or asked > 86400
    else:
        assert granted == timedelta(seconds=asked or 86400)


def test_no_certificate_outlives_the_root() -> None:
    late = ROOT.certificate.not_valid_after_utc - timedelta(minutes=1)
    assert (
        leaf(issue(ROOT, csr(), REVIEWS, HOUR, late)).not_valid_after_utc
        == ROOT.certificate.not_valid_after_utc
    )


segment = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)


@given(segment, segment, segment, segment)
def test_a_token_only_ever_gets_its_own_identity(own_ns: str, own_sa: str, ns: str, sa: str) -> None:
    own, wished = Identity("cluster.local", own_ns, own_sa), Identity("cluster.local", ns, sa)
    try:
        certificate = leaf(issue(ROOT, csr(wished.uri), own, HOUR, NOW))
    except RefusedError:
        assert own != wished
    else:
        assert own == wished
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.UniformResourceIdentifier) == [own.uri]
