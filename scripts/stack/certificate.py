"""A certificate for signing clips in development: well-formed, but trusted by nobody."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CERT, KEY, ROOT = "signing.pem", "signing.key", "root.pem"
VALID = timedelta(days=3650)


def signing_certificate(folder: Path, valid: timedelta = VALID) -> dict[str, str]:
    """PROVENANCE_CERT and PROVENANCE_KEY of a chain in `folder`, created on first use.

    C2PA requires an end-entity certificate that is not self-signed, with digitalSignature and one
    of a few extended usages (specification 2.4, 14.5.1). Of those, c2pa-rs accepts emailProtection
    by default. The root's key is thrown away after issuing this one certificate.
    """
    names = {"PROVENANCE_CERT": folder / CERT, "PROVENANCE_KEY": folder / KEY}
    if not (folder / CERT).exists():
        _make(folder, valid)
    return {name: str(path) for name, path in names.items()}


def _make(folder: Path, valid: timedelta) -> None:
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = _certificate("development root", root_key, "development root", root_key, valid)
    leaf = _certificate("development", key, "development root", root_key, valid)
    (folder / KEY).touch(mode=0o600)
    (folder / KEY).write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (folder / ROOT).write_bytes(root.public_bytes(serialization.Encoding.PEM))
    # Written last: its presence means that everything is there.
    (folder / CERT).write_bytes(leaf.public_bytes(serialization.Encoding.PEM))


def _certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    valid: timedelta,
) -> x509.Certificate:
    authority = key is issuer_key
    now = datetime.now(UTC)
    usages = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    usages["key_cert_sign" if authority else "digital_signature"] = True
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # clocks differ
        .not_valid_after(now + valid)
        .add_extension(x509.BasicConstraints(authority, 0 if authority else None), critical=True)
        .add_extension(x509.KeyUsage(**usages), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if not authority:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(identifier, critical=False)
        builder = builder.add_extension(usage, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Stillmotion"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Stillmotion {common}"),
        ]
    )
