"""Content credentials: a real worker signs; the library's reader and our command verify."""

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
import c2pa
import pytest

from app.config.profiles_file import PROFILES
from app.config.settings import ConfigError, Settings
from app.domain.job.profiles import DEFAULT_PROFILE
from scripts.stack.certificate import KEY, ROOT, signing_certificate
from stillmotion.cli import ExitStatus, run
from tests.support.fleet import fleet as make_fleet
from tests.support.services import ROOT as REPOSITORY
from tests.support.services import SECRET_KEY
from workers.media import provenance

CLIP = (REPOSITORY / "workers/engines/noop/noop.mp4").read_bytes()
NOW = datetime.now(UTC)
VIDEO, MOTION = PROFILES["noop"], PROFILES[DEFAULT_PROFILE]


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A folder with a development certificate chain."""
    folder = tmp_path_factory.mktemp("chain")
    signing_certificate(folder)
    return folder


@pytest.fixture
def signing(chain):
    """The settings that make a worker sign."""
    paths = signing_certificate(chain)
    return {"provenance_cert": paths["PROVENANCE_CERT"], "provenance_key": paths["PROVENANCE_KEY"]}


def make_settings(**values):
    given = {"database_url": "x", "redis_url": "x", "objects_url": "x", "secret_key": SECRET_KEY}
    return Settings(**given | values)


def read(video, *trusted):
    """A clip's (state, active manifest, failure codes) according to c2pa's own reader."""
    settings = {"trust": {"trust_anchors": "".join(path.read_text() for path in trusted)}}
    context = c2pa.Context.from_dict(settings) if trusted else None
    with c2pa.Reader("video/mp4", io.BytesIO(video), context=context) as reader:
        failures = reader.get_validation_results()["activeManifest"]["failure"]
        state, manifest = reader.get_validation_state(), reader.get_active_manifest()
        return state, manifest, {failure["code"] for failure in failures}


def frames(video):
    with av.open(io.BytesIO(video)) as container:
        return [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]


def created(manifest):
    [actions] = [a for a in manifest["assertions"] if a["label"].startswith("c2pa.actions")]
    [action] = actions["data"]["actions"]
    return action


def test_a_signed_clip_names_its_model_and_plays_as_before(signing, chain):
    credentials = provenance.load(make_settings(**signing), MOTION, "7.8.9")
    video = credentials.sign(CLIP, NOW)
    state, manifest, failures = read(video, chain / ROOT)
    assert (state, failures) == ("Trusted", set())
    action = created(manifest)
    assert action["action"] == "c2pa.created"
    assert action["digitalSourceType"].endswith("/digitalsourcetype/trainedAlgorithmicMedia")
    assert action["softwareAgent"] == {"name": "motion-small", "version": "7.8.9"}
    [made_with] = manifest["claim_generator_info"]
    assert made_with["name"] == "Stillmotion"
    assert made_with["version"][0].isdigit()
    assert frames(video) == frames(CLIP)
    # Without the root the signature is still valid, but the signer is not trusted.
    assert read(video)[0::2] == ("Valid", {"signingCredential.untrusted"})


@pytest.mark.parametrize("where", [0.1, 0.5, 0.9])
def test_a_changed_byte_of_the_video_is_found(signing, chain, where):
    video = bytearray(provenance.load(make_settings(**signing), MOTION, "1").sign(CLIP, NOW))
    start = video.rindex(b"mdat") + 4
    video[start + int(where * (len(video) - start))] ^= 1
    state, _, failures = read(bytes(video), chain / ROOT)
    assert (state, failures) == ("Invalid", {"assertion.bmffHash.mismatch"})


def test_a_computed_clip_does_not_claim_a_model(signing):
    credentials = provenance.load(make_settings(**signing), VIDEO, "1")
    _, manifest, _ = read(credentials.sign(CLIP, NOW))
    assert created(manifest)["digitalSourceType"].endswith("/algorithmicMedia")


def test_signing_can_be_switched_off(signing):
    assert provenance.load(make_settings(), MOTION, "1") is None
    assert provenance.load(make_settings(provenance=False, **signing), MOTION, "1") is None
    assert provenance.sign_or_pass(None, CLIP, NOW) == CLIP


def test_a_clip_that_cannot_be_signed_is_kept_and_counted(signing):
    credentials = provenance.load(make_settings(**signing), MOTION, "1")
    failed = provenance.clips_signed.labels("failed")
    before = failed._value.get()
    assert provenance.sign_or_pass(credentials, b"not a clip", NOW) == b"not a clip"
    assert failed._value.get() == before + 1


def test_a_certificate_that_has_expired_signs_nothing(tmp_path):
    """Also after the start, when a clip is not read back."""
    old = signing_certificate(tmp_path, timedelta(seconds=1) - timedelta(minutes=1))
    chain, key = (Path(old[name]).read_bytes() for name in ("PROVENANCE_CERT", "PROVENANCE_KEY"))
    credentials = provenance.Credentials(
        chain, key, model="m", model_version="1", source_type=provenance.GENERATED
    )
    assert provenance.sign_or_pass(credentials, CLIP, NOW) == CLIP


def test_a_certificate_that_c2pa_rejects_stops_the_start(tmp_path, signing):
    (tmp_path / "old").mkdir()
    old = signing_certificate(tmp_path / "old", timedelta(seconds=1) - timedelta(minutes=1))
    with pytest.raises(ConfigError, match="PROVENANCE_CERT cannot sign clips"):
        provenance.load(
            make_settings(
                provenance_cert=old["PROVENANCE_CERT"], provenance_key=old["PROVENANCE_KEY"]
            ),
            MOTION,
            "1",
        )
    strange = tmp_path / "key"
    strange.write_text("hunter2")
    for path in (strange, tmp_path / "none"):
        with pytest.raises(ConfigError, match="PROVENANCE_KEY") as refused:
            provenance.load(make_settings(**signing | {"provenance_key": path}), MOTION, "1")
        assert "hunter2" not in str(refused.value)
    with pytest.raises(ConfigError):  # the key of another certificate
        provenance.load(
            make_settings(**signing | {"provenance_key": old["PROVENANCE_KEY"]}), MOTION, "1"
        )
    with pytest.raises(ValueError, match="together"):
        make_settings(provenance_cert=signing["provenance_cert"])


def test_the_development_key_is_private_and_created_once(tmp_path):
    first = signing_certificate(tmp_path)
    key = (tmp_path / KEY).read_bytes()
    assert (tmp_path / KEY).stat().st_mode & 0o777 == 0o600
    assert signing_certificate(tmp_path) == first
    assert (tmp_path / KEY).read_bytes() == key


def test_a_worker_uploads_the_signed_clip(change, store, tmp_path, signing, chain):
    with make_fleet(change(**signing), store, tmp_path) as fleet:
        fleet.dispatcher()
        worker = fleet.worker().wait_ready()
        job = fleet.wait(fleet.submit(), "succeeded")
        video = fleet.objects.get(job.output_key)
        log = str(worker.log)
    assert len(video) == job.output_bytes > len(CLIP)
    state, manifest, _ = read(video, chain / ROOT)
    assert state == "Trusted"
    assert created(manifest)["softwareAgent"] == {"name": "noop", "version": "1"}
    assert "PRIVATE KEY" not in log


def test_the_command_shows_a_clips_credentials(tmp_path, capsys, signing, chain):
    credentials = provenance.load(make_settings(**signing), MOTION, "1.2.3")
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(credentials.sign(CLIP, NOW))
    assert run(["provenance", str(clip), "--trust", str(chain / ROOT)]) == ExitStatus.OK
    shown = capsys.readouterr().out
    assert "state      Trusted" in shown
    assert "signed by  Stillmotion development (Stillmotion)" in shown
    assert "c2pa.created, trainedAlgorithmicMedia, motion-small 1.2.3" in shown
    assert run(["provenance", str(clip), "--json"]) == ExitStatus.OK
    assert json.loads(capsys.readouterr().out)["validation_state"] == "Valid"

    changed = bytearray(clip.read_bytes())
    changed[-1] ^= 1
    clip.write_bytes(changed)
    assert run(["provenance", str(clip)]) == ExitStatus.NO_CREDENTIALS
    assert "state      Invalid" in capsys.readouterr().out


def test_a_stranger_s_certificate_is_not_success(tmp_path, capsys, signing, chain):
    """A script that passes --trust asks who signed, not whether anybody did."""
    (tmp_path / "other").mkdir()
    signing_certificate(tmp_path / "other")
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(provenance.load(make_settings(**signing), MOTION, "1").sign(CLIP, NOW))
    stranger = ["provenance", str(clip), "--trust", str(tmp_path / "other" / ROOT)]
    for options in ([], ["--json"]):
        assert run([*stranger, *options]) == ExitStatus.NO_CREDENTIALS
        printed = capsys.readouterr()
        assert "Valid" in printed.out
        assert "does not trust" in printed.err
    assert run(["provenance", str(clip), "--trust", str(chain / ROOT)]) == ExitStatus.OK
    assert run(["provenance", str(clip)]) == ExitStatus.OK, "nobody was named to be trusted"
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("")
    assert run(["provenance", str(clip), "--trust", str(nothing)]) != ExitStatus.OK


def test_the_command_says_in_one_line_that_a_file_has_no_credentials(tmp_path, capsys):
    for name, content in (("plain.mp4", CLIP), ("text.mp4", b"hello"), ("empty.mp4", b"")):
        (tmp_path / name).write_bytes(content)
        assert run(["provenance", str(tmp_path / name)]) == ExitStatus.NO_CREDENTIALS
        printed = capsys.readouterr()
        assert (printed.out, printed.err.count("\n")) == ("", 1)
