"""Data URIs are decoded like in a browser, wherever their pieces begin."""

import base64
import binascii
import io
import json
import random
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.models.base import Invalid
from app.api.request.data_uri import DataUriDecoder
from app.api.request.json_body import TAKEN_OUT, read_json
from app.api.request.picture_file import PictureFile

DATA = bytes(range(256)) * 3 + b"\xff\xfb"  # its base64 has both odd digits and padding


def decode(uri: bytes, size: int = 1 << 20) -> bytes:
    out = bytearray()
    decoder = DataUriDecoder(out.extend)
    for at in range(0, len(uri), size):
        decoder.feed(uri[at : at + size])
    decoder.finish()
    return bytes(out)


BASE64 = base64.b64encode(DATA).decode()
LEGAL = {
    "plain": f"data:image/png;base64,{BASE64}",
    "without a type": f"data:;base64,{BASE64}",
    "another case": f"DATA:image/PNG;BASE64,{BASE64}",
    "parameters": f"data:image/png;name=a.png;charset=utf-8;base64,{BASE64}",
    "line ends": "data:image/png;base64," + base64.encodebytes(DATA).decode(),
    "line ends of mail": "data:;base64," + base64.encodebytes(DATA).decode().replace("\n", "\r\n"),
    "without padding": f"data:image/png;base64,{BASE64.rstrip('=')}",
    "escaped digits": f"data:image/png;base64,{quote(BASE64, safe='')}",
    "escaped line ends": f"data:;base64,{BASE64[:40]}%0D%0A{BASE64[40:]}",
    "percent-encoded": f"data:image/png,{quote(DATA, safe='')}",
    "percent-encoded, all of it": "data:," + "".join(f"%{byte:02x}" for byte in DATA),
    "space around it": f" \n data:image/png;base64,{BASE64}\n",
}


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("uri", LEGAL.values(), ids=LEGAL)
def test_what_a_browser_decodes_is_decoded(uri, size):
    assert decode(uri.encode(), size) == DATA


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    "uri",
    [
        "data:image/png;base64",
        "data:image/png;base64,A",
        "data:image/png;base64,AAAAA",
        "data:image/png;base64,AA=A",
        "data:image/png;base64,AAA==",
        "data:image/png;base64,AA=",
        "data:image/png;base64,====",
        "data:image/png;base64,AA==AA==",
        "data:image/png;base64,A*AA",
        "data:image/png;base64,-_-_",
        "data:image/png;base64,AAA%",
        "data:image/png;base64,AAA%4",
        "data:image/png;base64,AAA%zz",
        "data:image/png,%",
        "date:image/png;base64,AAAA",
        "data:" + ";a=b" * 200 + ";base64,AAAA",
    ],
)
def test_what_is_not_a_data_uri_is_refused(uri, size):
    with pytest.raises((ValueError, binascii.Error)):
        decode(uri.encode(), size)


@given(st.binary(max_size=300), st.integers(1, 50), st.booleans())
def test_any_bytes_survive_any_pieces(data, size, escaped):
    digits = base64.b64encode(data).decode()
    assert decode(f"data:;base64,{quote(digits) if escaped else digits}".encode(), size) == data
    assert decode(f"data:,{quote(data)}".encode(), size) == data


def read(body: bytes, name: str = "image") -> tuple[object, bytes]:
    picture = PictureFile(1_000_000, f"/{name}")
    rest, taken = read_json(io.BytesIO(body), name, picture)
    return json.loads(rest), picture.read() if taken else b""


@pytest.mark.parametrize("seed", range(20))
def test_a_long_picture_is_taken_out_of_the_body_wherever_it_is(seed):
    chance = random.Random(seed)
    data = chance.randbytes(chance.choice([5_000, 100_000, 300_000]))
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    fields = {"prompt": 'say "image": "data:x\\', "n": 1, "metadata": {"image": "data:short"}}
    items = list(fields.items())
    items.insert(chance.randrange(4), ("image", uri))
    body = json.dumps(dict(items), indent=chance.choice([None, 2]))
    if chance.random() < 0.5:
        body = body.replace("/", "\\/")  # as PHP does
    if chance.random() < 0.5:
        body = body.replace("+", "\\u002b")
    rest, picture = read(body.encode())
    assert picture == data
    assert rest == fields | {"image": TAKEN_OUT}


def test_a_picture_cut_at_any_byte_is_whole():
    class Pieces(io.BytesIO):
        def read(self, size=-1):
            return super().read(chance.randrange(1, 5000))

    chance = random.Random(1)
    data = chance.randbytes(20_000)
    uri = "data:image\\/png;base64," + base64.encodebytes(data).decode().replace("\n", "\\r\\n")
    body = b'{"a": 1, "image" : "%b", "b": "c"}' % uri.replace("+", "\\u002B").encode()
    for _ in range(30):
        picture = PictureFile(1_000_000, "/image")
        rest, taken = read_json(Pieces(body), "image", picture)
        assert taken
        assert picture.read() == data
        assert json.loads(rest) == {"a": 1, "image": TAKEN_OUT, "b": "c"}


@pytest.mark.parametrize(
    "text",
    [
        "A" * 9000 + '\\"',
        "A" * 9000 + "\\\\",
        "A" * 9000 + "\n",
        "A" * 9000 + "é",
        "A" * 9000 + "\\u00e9",
        "A" * 9000 + "\\x",
        "A" * 9000 + "\\u00",
        "*" * 9000,
        ";a=b" * 9000,
    ],
)
def test_a_long_string_that_is_no_data_uri_is_refused_by_its_field(text):
    with pytest.raises(Invalid) as refused:
        read(f'{{"image": "data:;base64,{text}"}}'.encode())
    assert refused.value.pointer == "/image"


def test_a_string_without_an_end_leaves_no_json():
    with pytest.raises(ValueError, match="Unterminated"):
        read(b'{"image": "data:;base64,' + b"A" * 9000)
