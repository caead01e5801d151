"""Content credentials (C2PA 2.x): a signed statement in the clip that a model made it.

Uses c2pa-python. https://spec.c2pa.org/specifications/specifications/2.4/
"""

import io
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import c2pa
import structlog
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from app.config.settings import ConfigError, Settings
from app.domain.job.profiles import Profile
from app.metrics import clips_signed

log = structlog.get_logger(__name__)

MP4 = "video/mp4"
# IPTC's terms. A profile without a model computes its clip instead of generating it.
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
GENERATED, COMPUTED = f"{SOURCE_TYPES}trainedAlgorithmicMedia", f"{SOURCE_TYPES}algorithmicMedia"

# The signature schemes that C2PA allows for each kind of key.
CURVES = {
    "secp256r1": c2pa.C2paSigningAlg.ES256,
    "secp384r1": c2pa.C2paSigningAlg.ES384,
    "secp521r1": c2pa.C2paSigningAlg.ES512,
}

# Reading each clip back to check its signature took a third of the time of signing. What can go
# wrong after the start, such as a certificate that expires, signing itself reports.
SETTINGS = {
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"verify_after_sign": False},
}


def load(config: Settings, profile: Profile, model_version: str) -> "Credentials | None":
    """The credentials that sign this worker's clips, or None if the settings have none.

    Signs the packaged clip once and reads it back. That detects a certificate that C2PA rejects
    (wrong usage, expired) before the worker takes jobs, and leaves everything loaded for the first
    job.
    Raises ConfigError, whose text never quotes the key.
    """
    if not config.provenance or config.provenance_cert is None or config.provenance_key is None:
        return None
    credentials = Credentials(
        _read("PROVENANCE_CERT", config.provenance_cert),
        _read("PROVENANCE_KEY", config.provenance_key),
        model=profile.name,
        model_version=model_version,
        source_type=GENERATED if profile.has_model else COMPUTED,
    )
    try:
        sample = files("workers.engines.noop").joinpath("noop.mp4").read_bytes()
        _verify(credentials.sign(sample, datetime.now(UTC)))
    except c2pa.C2paError as error:
        raise ConfigError(f"PROVENANCE_CERT cannot sign clips: {error}") from None
    return credentials


class Credentials:
    """Signs clips of one model with one key. Raises ConfigError for an unusable key."""

    def __init__(
        self, chain: bytes, key: bytes, *, model: str, model_version: str, source_type: str
    ):
        """`chain`: PEM; the signing certificate, then its issuers without the root."""
        try:
            info = c2pa.C2paSignerInfo(_algorithm(key), chain, key, None)
            self._context = c2pa.Context.from_dict(SETTINGS, c2pa.Signer.from_info(info))
        except c2pa.C2paError:
            # The library's message may quote the file.
            raise ConfigError("C2PA cannot use PROVENANCE_CERT or PROVENANCE_KEY.") from None
        self._generator = {"name": "Stillmotion", "version": version("stillmotion")}
        self._agent = {"name": model, "version": model_version}
        self._source_type = source_type

    def sign(self, video: bytes, made_at: datetime) -> bytes:
        """The MP4 with a manifest in its own box. Raises C2paError."""
        when = made_at.astimezone(UTC).isoformat(timespec="seconds")
        created = {
            "action": "c2pa.created",
            "when": when.replace("+00:00", "Z"),
            "digitalSourceType": self._source_type,
            "softwareAgent": self._agent,
        }
        manifest = {
            "claim_generator_info": [self._generator],
            "format": MP4,
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [created]}}],
        }
        signed = io.BytesIO()
        with c2pa.Builder(manifest, context=self._context) as builder:
            builder.sign(MP4, io.BytesIO(video), signed)
        return signed.getvalue()


def sign_or_pass(credentials: Credentials | None, video: bytes, made_at: datetime) -> bytes:
    """The signed clip; without credentials, the clip as it is.

    `made_at`: the database's time, which the manifest names.

    No clip is lost because of its signature. If signing fails, the clip is delivered unsigned, and
    the log and `stillmotion_clips_signed_total{outcome="failed"}` record it.
    """
    if credentials is None:
        return video
    try:
        signed = credentials.sign(video, made_at)
    except Exception as error:
        clips_signed.labels("failed").inc()
        log.error("clip_not_signed", error=str(error))
        return video
    clips_signed.labels("signed").inc()
    return signed


def _verify(signed: bytes) -> None:
    """Raise C2paError unless the signature is valid, trusted or not."""
    with c2pa.Reader(MP4, io.BytesIO(signed)) as reader:
        if reader.get_validation_state() not in ("Valid", "Trusted"):
            raise c2pa.C2paError("it cannot be verified")


def _read(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{setting}: {path}: {error.strerror}.") from None


def _algorithm(key: bytes) -> c2pa.C2paSigningAlg:
    try:
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError):
        raise ConfigError("PROVENANCE_KEY is not an unencrypted private key in PEM.") from None
    match private:
        case ec.EllipticCurvePrivateKey() if private.curve.name in CURVES:
            return CURVES[private.curve.name]
        case ed25519.Ed25519PrivateKey():
            return c2pa.C2paSigningAlg.ED25519
        case rsa.RSAPrivateKey():
            return c2pa.C2paSigningAlg.PS256
    raise ConfigError("PROVENANCE_KEY is a kind of key that C2PA does not allow.")
