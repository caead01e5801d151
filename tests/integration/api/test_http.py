"""HTTP at the level of bytes: what gunicorn refuses, framing, connections that are used again."""

import json
import threading

import httpx
import pytest
import requests

from tests.support.raw import Raw, head


def assert_problem(answer, status, code):
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    body = json.loads(answer.body)
    assert (body["status"], body["code"]) == (status, code)
    assert body["instance"] == f"urn:uuid:{answer.headers['x-request-id']}"
    assert answer.headers["connection"] == "close"


UNREADABLE = {
    "no HTTP": ("hello\r\n\r\n", 400, "bad_request"),
    "bare line feeds": ("GET / HTTP/1.1\nHost: a\n\n", 400, "bad_request"),
    "an empty line first": ("\r\n\r\nGET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
    "a header without a colon": ("GET / HTTP/1.1\r\nHost a\r\n\r\n", 400, "bad_request"),
    "two hosts": ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "bad_request"),
    "two lengths": (
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, "bad_request",
    ),
    "a long target": (f"GET /{'a' * 9000} HTTP/1.1\r\nHost: a\r\n\r\n", 414, "uri_too_long"),
    "many headers": (
        "GET / HTTP/1.1\r\n" + "".join(f"A{n}: b\r\n" for n in range(70)) + "\r\n",
        431, "headers_too_large",
    ),
    "one long header": (
        f"GET / HTTP/1.1\r\nA: {'b' * 9000}\r\n\r\n", 431, "headers_too_large",
    ),
    "a head without an end": ("GET / HTTP/1.1\r\n" + "A: b\r\n" * 7000, 431, "headers_too_large"),
    "an unknown coding": (
        "POST / HTTP/1.1\r\nTransfer-Encoding: x\r\n\r\n", 501, "transfer_coding_unknown",
    ),
    "an expectation": ("POST / HTTP/1.1\r\nExpect: cake\r\n\r\n", 417, "expectation_failed"),
}  # fmt: skip


@pytest.mark.parametrize("what", UNREADABLE)
def test_what_cannot_be_read_as_http_is_a_problem(server, what):
    sent, status, code = UNREADABLE[what]
    one = Raw(server).send(sent)
    assert_problem(one.answer(), status, code)
    assert one.ended()


CHUNKS = {
    "no size": "zz\r\n",
    "a negative size": "-1\r\n",
    "an empty size": "\r\n",
    "a bad extension": "1;\x01\r\na\r\n0\r\n\r\n",
    "no end of a chunk": "1\r\nab\r\n0\r\n\r\n",
    "a long size line": "1" * 20_000,
    "a forbidden trailer": "1\r\na\r\n0\r\nContent-Length: 3\r\n\r\n",
}


@pytest.mark.parametrize("what", CHUNKS)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/session", "/v1/uploads"])
def test_malformed_chunks_are_a_400(server, api_key, what, path):
    headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked", "Origin": server}
    one = Raw(server).send(head("POST", path, api_key, **headers), CHUNKS[what])
    assert_problem(one.answer(), 400, "bad_request")
    assert one.ended()


def test_a_body_that_ends_early_is_a_400_and_not_taken_for_whole(server, api_key):
    body = '{"size_bytes": 1}'
    one = Raw(server).send(
        head("POST", "/v1/uploads", api_key, Content_Type="application/json", Content_Length=1000),
        body,
    )
    one.sock.shutdown(1)
    assert_problem(one.answer(), 400, "bad_request")


def test_a_chunked_body_over_the_limit_is_a_413(server, api_key):
    sent = head(
        "POST", "/v1/uploads", api_key,
        Content_Type="application/json", Transfer_Encoding="chunked",
    )  # fmt: skip
    one = Raw(server).send(sent, "20000\r\n", "[" * 0x20000, "\r\n0\r\n\r\n")
    answer = one.answer()
    assert (answer.status, json.loads(answer.body)["code"]) == (413, "body_too_large")


def test_heads_in_pieces_and_requests_in_one_piece(server, api_key):
    get = head("GET", "/v1/models", api_key)
    one = Raw(server)
    for piece in (get[:3], get[3:40], get[40:-1], get[-1:] + get + get[:10]):
        one.send(piece)
    one.send(get[10:])
    assert [one.answer().status for _ in range(3)] == [200, 200, 200]
    one.close()


# Connections that are used again.

REFUSALS = {
    "401": ("/v1/jobs", {"Authorization": "Bearer sm_none"}, 401),
    "413": ("/v1/uploads", {"Content-Type": "application/json"}, 413),
    "415": ("/v1/jobs", {"Content-Type": "text/plain"}, 415),
    "404": ("/v1/nothing", {}, 404),
    "405": ("/v1/models", {}, 405),
}


@pytest.mark.parametrize("size", [1000, 60_000, 300_000, 5_000_000])
@pytest.mark.parametrize("why", REFUSALS)
def test_after_an_early_refusal_pooled_clients_go_on(server, api_key, why, size):
    path, headers, status = REFUSALS[why]
    if why == "413" and size < 65_536:
        pytest.skip("that fits")
    headers = {"Authorization": f"Bearer {api_key}"} | headers
    plain = requests.Session()
    plain.trust_env = False
    with httpx.Client(trust_env=False) as client, plain:
        for _ in range(5):
            answer = client.post(f"{server}{path}", content=b"x" * size, headers=headers)
            assert answer.status_code == status
            assert client.get(f"{server}/healthz").status_code == 200
            refused = plain.post(f"{server}{path}", data=b"x" * size, headers=headers, timeout=20)
            assert refused.status_code == status
            assert plain.get(f"{server}/healthz", timeout=20).status_code == 200


def test_a_short_body_is_read_and_its_connection_kept(server):
    one = Raw(server)
    for _ in range(3):
        one.send(head("POST", "/v1/jobs", "sm_none", Content_Length=50_000), "x" * 50_000)
        answer = one.answer()
        assert (answer.status, answer.headers["connection"]) == (401, "keep-alive")
    one.close()


def test_a_long_body_closes_its_connection_and_says_so(server):
    one = Raw(server).send(head("POST", "/v1/jobs", "sm_none", Content_Length=5_000_000))
    sending = threading.Thread(target=one.send, args=("x" * 5_000_000,))
    sending.start()
    assert_problem(one.answer(), 401, "invalid_api_key")
    sending.join(20)
    assert one.ended()


def test_a_client_that_asks_first_is_told_to_continue_only_if_its_body_is_wanted(
    server, api_key, photo
):
    expecting = {"Content_Length": 5_000_000, "Expect": "100-continue"}
    one = Raw(server).send(head("POST", "/v1/jobs", "sm_none", **expecting))
    assert_problem(one.answer(), 401, "invalid_api_key")
    form = httpx.Request("POST", server, files={"image": photo})
    body = form.read()
    expecting = {"Content_Length": len(body), "Expect": "100-continue"}
    two = Raw(server).send(
        head("POST", "/v1/jobs", api_key, Content_Type=form.headers["Content-Type"], **expecting)
    )
    assert two.answer().status == 100
    two.send(body)
    answer = two.answer()
    assert (answer.status, answer.headers["connection"]) == (202, "keep-alive")
    two.close()


# What a client says the server is called.


def test_no_header_changes_the_path_the_scheme_or_the_host(server, api_key):
    lies = (
        f"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\nSCRIPT_NAME: /v1\r\n"
        f"PATH_INFO: /ops\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n"
        f"X-Forwarded-Host: evil.example\r\nAuthorization: Bearer {api_key}\r\n\r\n"
    )
    one = Raw(server).send(lies)
    answer = one.answer()
    assert (answer.status, b"motion-small" in answer.body) == (200, True)
    one.close()


@pytest.mark.parametrize("path", ["/help", "//v1//jobs", "/v1/jobs//x", "/static//x", "/docs/"])
def test_the_host_header_is_not_reflected(server, path):
    answer = httpx.get(f"{server}{path}", headers={"Host": "evil.example:81"})
    assert "evil.example" not in answer.text
    assert "evil.example" not in str(answer.headers)
    if path == "/help":
        assert server in answer.text


def test_another_sites_name_for_this_server_is_not_its_own(server):
    """DNS rebinding: the page and the request are of the same origin, but not of this service."""
    answer = httpx.post(
        f"{server}/v1/session",
        json={"api_key": "x"},
        headers={"Host": "evil.example", "Origin": "http://evil.example"},
    )
    assert (answer.status_code, answer.json()["code"]) == (403, "cross_site_request")
