"""Pictures through real decoder processes: what comes out, and what a bad one can do."""

import contextlib
import hashlib
import io
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from app.domain.errors import BadRequest, Transient
from app.pictures.normaliser import Normaliser, Picture

RED, GREEN, BLUE, GREY = (200, 40, 40), (40, 180, 40), (40, 40, 200), (128, 128, 128)
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


@pytest.fixture(scope="module")
def normaliser():
    with Normaliser() as shared:
        yield shared


@pytest.fixture
def own():
    """A normaliser and the pid of its only process, which a test may harm."""
    before = set(child_pids())
    with Normaliser(timeout_s=1.0) as normaliser:
        normaliser.normalise(encode(quarters()))
        (pid,) = set(child_pids()) - before
        yield normaliser, pid


def quarters(width: int = 96, height: int = 64) -> Image.Image:
    """Red and green above blue and grey, so that every rotation and flip looks different."""
    image = Image.new("RGB", (width, height))
    for i, colour in enumerate((RED, GREEN, BLUE, GREY)):
        box = (i % 2 * width // 2, i // 2 * height // 2)
        image.paste(colour, (*box, box[0] + (width + 1) // 2, box[1] + (height + 1) // 2))
    return image


def encode(image: Image.Image, fmt: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, fmt, **options)
    return out.getvalue()


def pixels(picture: Picture) -> np.ndarray:
    """(H, W, 3), as signed integers."""
    image = Image.open(io.BytesIO(picture.data))
    assert (image.format, image.mode, image.size) == (
        "JPEG",
        "RGB",
        (picture.width, picture.height),
    )
    return np.asarray(image).astype(int)


def centres(picture: Picture) -> list[tuple]:
    """The colours in the middle of the four quarters, as `quarters` lists them."""
    p = pixels(picture)
    h, w, _ = p.shape
    return [tuple(p[y, x]) for y in (h // 4, 3 * h // 4) for x in (w // 4, 3 * w // 4)]


def assert_close(colours, expected, tolerance=6):
    assert np.abs(np.array(colours) - np.array(expected)).max() <= tolerance, (colours, expected)


def refusal(normaliser: Normaliser, data: bytes) -> str:
    with pytest.raises(BadRequest) as caught:
        normaliser.normalise(data)
    assert 400 <= caught.value.status < 500
    return caught.value.code


def child_pids() -> list[int]:
    tasks = Path("/proc/self/task").glob("*/children")
    pids = [int(pid) for task in tasks for pid in task.read_text().split()]
    return [p for p in pids if b"pictures/child.py" in Path(f"/proc/{p}/cmdline").read_bytes()]


# Output


@pytest.mark.parametrize("fmt", FORMATS)
def test_every_format_becomes_the_same_jpeg(normaliser, fmt):
    picture = normaliser.normalise(
        encode(quarters(), fmt, **({"quality": 95} if fmt == "WEBP" else {}))
    )
    assert (picture.width, picture.height, picture.content_type) == (96, 64, "image/jpeg")
    assert picture.sha256 == hashlib.sha256(picture.data).hexdigest()
    assert_close(centres(picture), (RED, GREEN, BLUE, GREY))


def test_a_real_photo_has_no_visible_loss(normaliser, photo):
    before = np.asarray(Image.open(io.BytesIO(photo))).astype(float)
    after = pixels(normaliser.normalise(photo))
    assert 10 * np.log10(255**2 / ((after - before) ** 2).mean()) > 45  # PSNR, dB


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(normaliser, fmt, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = quarters()
    # What a camera held that way would have stored for an upright `quarters`.
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.get(orientation)
    if turn is not None:
        stored = stored.transpose(turn)
    picture = normaliser.normalise(encode(stored, fmt, exif=exif, quality=95))
    assert (picture.width, picture.height) == (96, 64)
    assert_close(centres(picture), (RED, GREEN, BLUE, GREY))


def test_no_metadata_survives(normaliser):
    secret = b"31.4159N-SECRET"
    exif = Image.Exif()
    exif[0x010E] = secret.decode()
    exif.get_ifd(0x8825).update({1: "N", 2: (31.0, 24.0, 57.0), 29: secret.decode()})
    jpeg = encode(
        quarters(),
        "JPEG",
        exif=exif,
        comment=secret,
        xmp=b"<x:xmpmeta>" + secret + b"</x:xmpmeta>",
        icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        dpi=(123, 123),
    )
    iptc = b"Photoshop 3.0\x00" + secret
    jpeg = jpeg[:2] + b"\xff\xed" + struct.pack(">H", len(iptc) + 2) + iptc + jpeg[2:] + secret
    png_text = PngImagePlugin.PngInfo()
    png_text.add_text("Comment", secret.decode())
    files = [
        jpeg,
        encode(quarters(), "PNG", exif=exif, pnginfo=png_text),
        encode(quarters(), "WEBP", exif=exif, xmp=secret),
        encode(quarters(), "GIF", comment=secret),
        encode(quarters(), "TIFF", exif=exif, description=secret.decode()),
    ]
    for data in files:
        assert secret in data
        out = normaliser.normalise(data).data
        assert secret not in out
        assert jpeg_segments(out) <= {0xE0, 0xDB, 0xC0, 0xC4, 0xDA}
        assert dict(Image.open(io.BytesIO(out)).getexif()) == {}
        assert out.endswith(b"\xff\xd9")


def jpeg_segments(data: bytes) -> set[int]:
    """The marker codes up to the first scan: APP0, tables, frame and scan in a plain file."""
    found, at = set(), 2
    while True:
        assert data[at] == 0xFF
        found.add(data[at + 1])
        if data[at + 1] == 0xDA:
            return found
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def swapped_profile() -> bytes:
    """A valid colour profile in which the red channel shines blue."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return srgb.replace(b"rXYZ", b"tmpX").replace(b"bXYZ", b"rXYZ").replace(b"tmpX", b"bXYZ")


def test_a_colour_profile_is_converted_to_srgb(normaliser):
    data = encode(Image.new("RGB", (64, 64), (255, 0, 0)), "PNG", icc_profile=swapped_profile())
    assert_close(centres(normaliser.normalise(data)), [(0, 0, 255)] * 4)


def test_an_srgb_profile_changes_nothing(normaliser):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with_profile = normaliser.normalise(encode(quarters(), "PNG", icc_profile=srgb))
    assert with_profile == normaliser.normalise(encode(quarters(), "PNG"))


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_a_damaged_or_foreign_profile_is_ignored(normaliser, mode):
    image = quarters().convert(mode)
    fmt = "JPEG" if mode == "CMYK" else "PNG"
    plain = normaliser.normalise(encode(image, fmt))
    profile = swapped_profile() if mode == "CMYK" else swapped_profile()[:300]
    assert normaliser.normalise(encode(image, fmt, icc_profile=profile)) == plain


def test_transparency_is_laid_on_white(normaliser):
    image = quarters().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 255))
    image.paste((*RED, 0), (0, 0, 48, 32))
    image.paste((*GREEN, 128), (48, 0, 96, 32))
    half = tuple((c + 255) // 2 for c in GREEN)
    for fmt in ("PNG", "WEBP", "TIFF"):
        data = encode(image, fmt, **({"lossless": True} if fmt == "WEBP" else {}))
        assert_close(centres(normaliser.normalise(data)), ((255,) * 3, half, BLUE, GREY))


def test_transparency_of_a_palette_is_laid_on_white(normaliser):
    image = quarters().quantize(4)
    hole = image.getpixel((10, 10))
    for fmt in ("PNG", "GIF"):
        data = encode(image, fmt, transparency=hole)
        assert_close(centres(normaliser.normalise(data)), ((255,) * 3, GREEN, BLUE, GREY))


def test_grey_with_alpha_becomes_rgb(normaliser):
    image = Image.new("LA", (64, 64), (90, 255))
    image.paste((90, 0), (0, 0, 32, 32))
    assert_close(
        centres(normaliser.normalise(encode(image))), [(255,) * 3, (90,) * 3, (90,) * 3, (90,) * 3]
    )


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK"])
def test_grey_bilevel_palette_and_cmyk_become_rgb(normaliser, mode):
    source = Image.new("RGB", (64, 64), (0, 0, 0))
    source.paste((255, 255, 255), (32, 0, 64, 64))
    fmt = "JPEG" if mode == "CMYK" else "PNG"
    picture = normaliser.normalise(encode(source.convert(mode), fmt))
    assert_close(centres(picture), [(0,) * 3, (255,) * 3] * 2)


def test_cmyk_keeps_its_colours(normaliser):
    # Pillow writes CMYK as Adobe does: inverted.
    data = encode(quarters().convert("CMYK"), "JPEG", quality=95)
    assert_close(centres(normaliser.normalise(data)), (RED, GREEN, BLUE, GREY), tolerance=10)


def ramp16() -> np.ndarray:
    return np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (32, 1))


def tiff16_big_endian() -> bytes:
    """A minimal TIFF as scanners write it; Pillow itself writes little-endian only."""
    values = ramp16()
    data = values.astype(">u2").tobytes()
    tags = [(256, 256), (257, 32), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, 32)]
    tags.append((279, len(data)))
    entries = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags)
    directory = struct.pack(">H", len(tags)) + entries + bytes(4)
    return b"MM\0*" + struct.pack(">I", 8 + len(data)) + data + directory


def png16_rgb() -> bytes:
    """A 16-bit colour PNG, which Pillow reads but does not write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    rows = b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in ramp16())
    header = struct.pack(">IIBBBBB", 256, 32, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    "data",
    [
        encode(Image.fromarray(ramp16()), "PNG"),
        encode(Image.fromarray(ramp16()), "TIFF"),
        tiff16_big_endian(),
        png16_rgb(),
        encode(Image.fromarray(ramp16().astype(np.int32)), "TIFF"),
        encode(Image.fromarray(ramp16().astype(np.float32) / 65535), "TIFF"),
    ],
    ids=["png", "tiff", "tiff big-endian", "png rgb", "tiff 32 bit", "tiff float"],
)
def test_deep_pictures_are_scaled_and_not_clipped(normaliser, data):
    row = pixels(normaliser.normalise(data))[16]
    assert np.abs(row - np.arange(256)[:, None]).max() <= 3


def test_only_the_first_frame_of_an_animation_is_used(normaliser):
    frames = [Image.new("RGB", (64, 64), colour) for colour in (RED, GREEN, BLUE)]
    for fmt in ("GIF", "WEBP", "PNG", "TIFF"):
        data = encode(frames[0], fmt, save_all=True, append_images=frames[1:])
        assert_close(centres(normaliser.normalise(data)), [RED] * 4, tolerance=8)


def test_a_phone_s_second_picture_is_dropped(normaliser):
    data = encode(quarters(), "MPO", save_all=True, append_images=[Image.new("RGB", (96, 64), RED)])
    picture = normaliser.normalise(data)
    assert_close(centres(picture), (RED, GREEN, BLUE, GREY))
    assert picture.data.count(b"\xff\xd8\xff") == 1


@pytest.mark.parametrize(
    ("given", "got"),
    [
        ((101, 77), (100, 76)),  # cut, never stretched
        ((16, 16), (16, 16)),
        ((17, 130), (16, 130)),
        ((3000, 2000), (2048, 1364)),
        ((2000, 3001), (1364, 2048)),
        ((4000, 500), (2048, 256)),
    ],
)
@pytest.mark.parametrize("fmt", ["JPEG", "PNG"])
def test_sizes_are_even_and_the_longer_side_is_capped(normaliser, fmt, given, got):
    picture = normaliser.normalise(encode(quarters(*given), fmt, quality=95, subsampling=0))
    assert (picture.width, picture.height) == got
    assert_close(centres(picture), (RED, GREEN, BLUE, GREY), tolerance=12)


def test_the_caller_chooses_the_cap(normaliser):
    picture = normaliser.normalise(encode(quarters(640, 480)), max_side=256)
    assert (picture.width, picture.height) == (256, 192)


def test_shrinking_does_not_alias(normaliser):
    """A fine chequerboard averages to grey; taking every n-th pixel would leave a pattern."""
    board = np.indices((3000, 3000)).sum(0) % 2 * np.uint8(255)
    p = pixels(normaliser.normalise(encode(Image.fromarray(board.astype(np.uint8)))))[8:-8, 8:-8]
    assert abs(p.mean() - 127.5) < 4
    assert p.std() < 20


# Refusals


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 10) + b"IDAT" + bytes(14)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_image"),
        (b"hello, I am a text", "not_an_image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "unsupported_image_format"),
        (b"<svg width='9' height='9'/>", "unsupported_image_format"),
        (b"\x89PNG\r\n\x1a\n", "truncated_image"),
        (b"\xff\xd8\xff" + b"garbage" * 99, "truncated_image"),
        (png_header(50_000, 50_000), "image_too_large"),
        (png_header(7072, 7072), "image_too_large"),
        (png_header(15, 100), "image_too_small"),
        (png_header(1601, 200), "unsupported_aspect_ratio"),
    ],
)
def test_bad_pictures_get_their_own_code(normaliser, data, code):
    began = time.monotonic()
    assert refusal(normaliser, data) == code
    assert time.monotonic() - began < 1


def test_a_compressed_bomb_is_refused_without_decoding(normaliser):
    rows = zlib.compressobj(9)
    data = b"".join(rows.compress(bytes(2**20)) for _ in range(64)) + rows.flush()
    bomb = png_header(50_000, 50_000)[:33] + struct.pack(">I", len(data)) + b"IDAT" + data
    began = time.monotonic()
    assert refusal(normaliser, bomb) == "image_too_large"
    assert time.monotonic() - began < 0.5


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_truncated_file_is_refused(normaliser, fmt, photo):
    data = encode(Image.open(io.BytesIO(photo)), fmt)
    for share in (0.02, 0.3, 0.6, 0.9):
        assert refusal(normaliser, data[: int(len(data) * share)]) == "truncated_image"


@pytest.mark.parametrize("fmt", FORMATS)
def test_damaged_files_never_kill_the_process(normaliser, fmt, photo):
    data = bytearray(encode(Image.open(io.BytesIO(photo)).resize((150, 100)), fmt))
    before = child_pids()
    noise = np.random.default_rng(7)
    for _ in range(60):
        damaged = bytearray(data)
        for at in noise.integers(8, len(data), 5):
            damaged[at] = noise.integers(256)
        with contextlib.suppress(BadRequest):
            normaliser.normalise(bytes(damaged))
    assert child_pids() == before


# Harm from bad pictures


def test_a_picture_that_needs_too_much_memory_fails_alone():
    bomb = encode(Image.new("RGB", (7000, 7000)))
    with Normaliser(memory_mb=128) as small:
        assert refusal(small, bomb) == "image_too_complex"
        assert small.normalise(encode(quarters())).width == 96


def test_a_process_that_hangs_is_replaced(own):
    normaliser, pid = own
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    assert refusal(normaliser, encode(quarters())) == "image_too_complex"
    assert time.monotonic() - began < 2
    assert normaliser.normalise(encode(quarters())).width == 96
    assert pid not in child_pids()


def test_a_process_that_dies_while_working_is_replaced(own):
    normaliser, pid = own
    os.kill(pid, signal.SIGSTOP)
    killer = threading.Timer(0.2, os.kill, (pid, signal.SIGKILL))
    killer.start()
    assert refusal(normaliser, encode(quarters())) == "image_too_complex"
    killer.join()
    assert normaliser.normalise(encode(quarters())).width == 96


def test_a_process_that_dies_while_idle_affects_nobody(own):
    normaliser, pid = own
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while state(pid) not in "Z" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert normaliser.normalise(encode(quarters())).width == 96


def test_a_damaged_picture_writes_nothing_to_our_log(photo, capfd):
    data = bytearray(encode(Image.open(io.BytesIO(photo)), "TIFF", compression="tiff_lzw"))
    half = len(data) // 2
    data[half:-2000] = np.random.default_rng(7).bytes(len(data) - half - 2000)
    # Started here, so that its standard error is captured.
    with Normaliser() as normaliser:
        assert refusal(normaliser, bytes(data)) == "truncated_image"
    assert capfd.readouterr() == ("", "")


def test_the_process_gets_no_environment_and_no_descriptors(own):
    _, pid = own
    assert Path(f"/proc/{pid}/environ").read_bytes() == b""
    assert {path.name for path in Path(f"/proc/{pid}/fd").iterdir()} == {"0", "1", "2"}
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert [line.split()[3:5] for line in limits.splitlines() if "open files" in line] == [
        ["3", "3"]
    ]


def test_the_child_ends_with_us_however_we_end():
    program = """
import os, pathlib, signal, sys
from app.pictures.normaliser import Normaliser
normaliser = Normaliser()
normaliser.normalise(sys.stdin.buffer.read())
assert "PIL" not in sys.modules
for children in pathlib.Path("/proc/self/task").glob("*/children"):
    print(children.read_text(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], input=encode(quarters()), stdout=subprocess.PIPE
    )
    (pid,) = map(int, run.stdout.split())
    deadline = time.monotonic() + 5
    while state(pid) not in "Z" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert state(pid) in "Z"


def state(pid: int) -> str:
    """The kernel's letter for a process's state; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def test_if_every_process_is_busy_the_caller_may_retry():
    with pytest.raises(Transient) as caught:
        Normaliser(processes=0, timeout_s=0.05).normalise(encode(quarters()))
    assert caught.value.code == "pictures_busy"


def test_many_threads_each_get_their_own_picture():
    colours = [(25 * i, 255 - 25 * i, 128) for i in range(10)]
    files = [encode(Image.new("RGB", (64, 64), colour)) for colour in colours]
    wrong = []

    def work(first: int) -> None:
        for i in range(first, first + 40):
            got = centres(normaliser.normalise(files[i % 10]))[0]
            if np.abs(np.array(got) - colours[i % 10]).max() > 4:
                wrong.append((i, got))

    with Normaliser(processes=2) as normaliser:
        before = set(child_pids())
        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(child_pids()) - before) <= 2
    assert wrong == []
