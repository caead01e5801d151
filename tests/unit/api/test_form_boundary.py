"""The search for a form's boundary finds exactly what werkzeug's pattern finds."""

from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug.sansio.multipart import MultipartDecoder

from app.api.request.form_body import Boundary

PATTERN = MultipartDecoder(b"b").boundary_re
PIECES = st.sampled_from([b"\r", b"\n", b"\r\n", b"--b", b"--", b"-", b"b", b" ", b"\t", b"x"])


@given(st.lists(PIECES, max_size=14).map(b"".join))
@example(b"--b--b\r\n")
@example(b"\n--b--\r\n--b\r\n")
@example(b"\r\n--bx\r\n--b \t\r\n")
def test_it_finds_the_same_place(data):
    expected = PATTERN.search(data)
    found = Boundary(b"--b", PATTERN).search(bytearray(data))
    assert (found and (found.span(), found.groups())) == (
        expected and (expected.span(), expected.groups())
    )
