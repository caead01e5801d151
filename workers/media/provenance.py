"""Content credentials (C2PA 2.x): a signed note in the clip that says that a model made it.

A shell around c2pa-python. https://spec.c2pa.org/specifications/specifications/2.4/
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
from app.telemetry import clips_signed

log = structlog.get_logger(__name__)

MP4 = "video/mp4"
# IPTC's terms. A profile without a network computes its clip and generates nothing.
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
GENERATED, COMPUTED = f"{SOURCE_TYPES}trainedAlgorithmicMedia", f"{SOURCE_TYPES}algorithmicMedia"

# The signature schemes that C2PA allows for each kind of key.
CURVES = {
    "secp256r1": c2pa.C2paSigningAlg.ES256,
    "secp384r1": c2pa.C2paSigningAlg.ES384,
    "secp521r1": c2pa.C2paSigningAlg.ES512,
}


def load(config: Settings, profile: Profile, model_version: str) -> "Credentials | None":
    """What signs this worker's clips; None where the settings ask for none.

    Signs the packaged clip once: a certificate that C2PA does not accept (wrong usage, expired) is
    found before the worker takes jobs, and the first job finds everything loaded.
    Raises ConfigError; its text holds nothing of the key.
    """
    if not config.provenance or config.provenance_cert is None or config.provenance_key is None:
        return None
    credentials = Credentials(
        _read("PROVENANCE_CERT", config.provenance_cert),
        _read("PROVENANCE_KEY", config.provenance_key),
        model=profile.name,
        model_version=model_version,
        source_type=GENERATED if profile.network else COMPUTED,
    )
    try:
        credentials.sign(files("workers.engines.noop").joinpath("noop.mp4").read_bytes())
    except c2pa.C2paError as error:
        raise ConfigError(f"PROVENANCE_CERT cannot sign clips: {error}") from None
    return credentials


class Credentials:
    """Signs clips in one name, for one model. Raises ConfigError for a key that cannot."""

    def __init__(
        self, chain: bytes, key: bytes, *, model: str, model_version: str, source_type: str
    ):
        """`chain`: PEM, the signing certificate first, then its issuers without the root."""
        try:
            info = c2pa.C2paSignerInfo(_algorithm(key), chain, key, None)
            self._context = c2pa.Context.from_dict(
                {"builder": {"thumbnail": {"enabled": False}}}, c2pa.Signer.from_info(info)
            )
        except c2pa.C2paError:
            # The library may quote what it could not read.
            raise ConfigError("PROVENANCE_CERT or PROVENANCE_KEY is not what C2PA needs.") from None
        self._generator = {"name": "Stillmotion", "version": version("stillmotion")}
        self._agent = {"name": model, "version": model_version}
        self._source_type = source_type

    def sign(self, video: bytes) -> bytes:
        """The MP4 with a manifest of its making in a box of its own. Raises C2paError."""
        created = {
            "action": "c2pa.created",
            "when": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
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


def signed(credentials: Credentials | None, video: bytes) -> bytes:
    """The clip with its credentials, or as it is where there are none.

    A clip is never lost for its signature: when signing fails, it goes out unsigned, and the log
    and `stillmotion_clips_signed_total{outcome="failed"}` say so.
    """
    if credentials is None:
        return video
    try:
        whole = credentials.sign(video)
    except Exception as error:
        clips_signed.labels("failed").inc()
        log.error("clip not signed", error=str(error))
        return video
    clips_signed.labels("signed").inc()
    return whole


def _read(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{setting}: {path}: {error.strerror}.") from None


def _algorithm(key: bytes) -> c2pa.C2paSigningAlg:
    try:
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError):
        raise ConfigError("PROVENANCE_KEY holds no unencrypted private key in PEM.") from None
    match private:
        case ec.EllipticCurvePrivateKey() if private.curve.name in CURVES:
            return CURVES[private.curve.name]
        case ed25519.Ed25519PrivateKey():
            return c2pa.C2paSigningAlg.ED25519
        case rsa.RSAPrivateKey():
            return c2pa.C2paSigningAlg.PS256
    raise ConfigError("PROVENANCE_KEY is of a kind that C2PA does not allow.")
