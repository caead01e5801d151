"""Which files are taken for pictures, by their first bytes alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import BadRequest
from app.pictures.normaliser import Normaliser
from app.pictures.refusals import REFUSALS
from app.pictures.sniffing import sniff


def code_of(data: bytes) -> str:
    with pytest.raises(BadRequest) as caught:
        sniff(data)
    assert caught.value.status == REFUSALS[caught.value.code][0]
    assert caught.value.pointer == "/image"
    return caught.value.code


@pytest.mark.parametrize(
    ("start", "fmt"),
    [
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "WEBP"),
        (b"GIF87a", "GIF"),
        (b"GIF89a", "GIF"),
        (b"BM" + bytes(12) + b"\x28\0\0\0", "BMP"),
        (b"II*\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1miafheix", "HEIF"),
        (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miaf", "AVIF"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "AVIF"),
    ],
)
def test_the_first_bytes_name_the_format(start, fmt):
    assert sniff(start + bytes(100)) == fmt


@pytest.mark.parametrize(
    "data",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"\xc5\xd0\xd3\xc6" + bytes(30),
        b"%PDF-1.7",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<?xml version='1.0'?>\n<!-- drawn -->\n<SVG/>",
        b"\0\0\0\x20ftypisom\0\0\0\0mp42avc1",
        b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",  # a camera's raw picture
        b"\0\0\0\x18ftypmif1\0\0\0\0mif1j2ki",
        b"8BPS\0\1",
        b"\0\0\1\0\1\0",
    ],
)
def test_unsupported_picture_formats_are_named_as_such(data):
    assert code_of(data) == "unsupported_image_format"


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"\xff\xd8",
        b"BMW is a car maker from Munich",
        b"RIFF\0\0\0\0WAVEfmt ",
        b"{}",
        b"\0" * 99,
    ],
)
def test_anything_else_is_not_an_image(data):
    assert code_of(data) == "not_an_image"


def test_no_bytes_are_an_empty_image():
    assert code_of(b"") == "empty_image"


@given(st.binary())
def test_any_bytes_are_either_a_known_format_or_refused(data):
    try:
        assert sniff(data) in {"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"}
    except BadRequest as error:
        assert error.code in REFUSALS


def test_a_file_over_the_limit_is_refused_before_any_process_starts():
    with pytest.raises(BadRequest) as caught:
        Normaliser(processes=0, max_bytes=10).normalise(b"GIF89a" + bytes(5))
    assert (caught.value.code, caught.value.status) == ("upload_too_large", 413)
