"""A key whose pictures are as slow as the limits allow delays the others little."""

import resource
import signal
import struct
import subprocess
import sys
import threading
import time

from PIL import Image

from app.domain.errors import BadRequest, Transient
from app.pictures.normaliser import Normaliser
from tests.support.pictures import encode, refusal


def with_scans(scans: int, size: tuple[int, int] = (1200, 800)) -> bytes:
    """A progressive JPEG of `scans` scans, in a few kB: its data end early, its blocks do not."""
    small = Image.effect_noise((64, 64), 40).convert("RGB")
    data = encode(small, "JPEG", progressive=True, quality=5)
    at = data.index(b"\xff\xc2") + 5
    data = data[:at] + struct.pack(">HH", *reversed(size)) + data[at + 4 :]
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (scans - data.count(b"\xff\xda")) + b"\xff\xd9"


def test_scans_are_counted_before_they_are_decoded(normaliser):
    normaliser.normalise(with_scans(100))
    began = time.monotonic()
    assert refusal(normaliser, with_scans(1000)) == "image_too_complex"
    refused_s = time.monotonic() - began
    began = time.monotonic()
    normaliser.normalise(with_scans(100))
    assert refused_s < 2 * (time.monotonic() - began) + 1


def test_scans_of_a_thumbnail_do_not_count(normaliser, photo):
    """A small JPEG in a segment of a large one."""
    thumbnail = with_scans(200)
    segment = b"\xff\xef" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    assert thumbnail.count(b"\xff\xda") > 100
    assert normaliser.normalise(photo[:2] + segment + photo[2:]) == normaliser.normalise(photo)


def test_cpu_time_is_bounded_whatever_the_picture():
    """100 scans of 120 megapixels, 8 kB: about the most that the count lets through."""
    slow = with_scans(100, (12_000, 10_000))
    quick = encode(Image.new("RGB", (64, 64)))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with Normaliser(cpu_s=1, timeout_s=60) as normaliser:
        normaliser.normalise(quick)
        try:
            normaliser.normalise(slow)  # a fast processor is done within the limit
        except BadRequest as error:
            assert error.code == "image_too_complex"
        assert normaliser.normalise(quick).width == 64
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Limits count whole seconds, and one more decoder is started if the first is ended.
    assert spent.ru_utime + spent.ru_stime - before.ru_utime - before.ru_stime < 4


def test_the_kernel_ends_a_decoder_that_goes_on_for_ever():
    code = "from app.pictures.decoder.walls import limit_cpu; limit_cpu(1)\nwhile True: pass"
    ended = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert ended.returncode == -signal.SIGXCPU


def test_a_key_with_slow_pictures_does_not_delay_another_key(photo):
    slow = with_scans(100, (2000, 1500))
    stop = threading.Event()
    decoded = []

    def hog() -> None:
        while not stop.is_set():
            try:
                normaliser.normalise(slow, key="hog")
                decoded.append(1)
            except (BadRequest, Transient):
                pass

    with Normaliser(processes=2) as normaliser:
        began = time.monotonic()
        normaliser.normalise(slow, key="hog")
        alone_s = time.monotonic() - began
        threads = [threading.Thread(target=hog) for _ in range(6)]
        for thread in threads:
            thread.start()
        normaliser.normalise(photo, key="other")  # starts the second process
        times = []
        for _ in range(5):
            began = time.monotonic()
            normaliser.normalise(photo, key="other")
            times.append(time.monotonic() - began)
        stop.set()
        for thread in threads:
            thread.join()
    # Six of the hog's would be in front of each, if they stood in one line.
    assert sorted(times)[2] < max(2 * alone_s, 0.5), (times, alone_s)
    assert decoded
