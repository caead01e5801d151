"""Which URLs and addresses a stranger may make us contact, before anything is contacted."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import BadRequest
from app.outbound import is_public, parse_allow, vet_url


def refused(url: str, allow=frozenset()) -> bool:
    try:
        vet_url(url, allow)
    except BadRequest as error:
        assert (error.code, error.status) == ("url_not_allowed", 422)
        return True
    return False


@pytest.mark.parametrize(
    ("url", "liftable"),
    [
        ("http://example.com/", True),
        ("http://127.0.0.1:8080/", True),
        ("https://127.0.0.1/", True),
        ("https://localhost/", True),
        ("https://example.com:22/", True),
        ("https://me:pw@example.com/", False),
        ("ftp://example.com/", False),
        ("https://a b/", False),
    ],
)
def test_a_refusal_names_the_setting_that_lifts_it_and_nothing_on_the_list(url, liftable):
    said = set()
    for allow in ("", "internal.example:9000, 10.0.0.7:80"):
        with pytest.raises(BadRequest) as caught:
            vet_url(url, parse_allow(allow))
        said.add(caught.value.detail)
    [sentence] = said
    assert ("OUTBOUND_ALLOW" in sentence) is liftable
    assert "internal" not in sentence and "10.0.0.7" not in sentence


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com/a/b.jpg?c=d&e=%20#f",
        "https://EXAMPLE.com:443/",
        "https://example.com:8443/hook",
        "https://example.com./",
        "https://a_b.xn--bcher-kva.example/",
        "https://bücher.example/größe.jpg",
        "https://1.2.3.4.example.com/",
    ],
)
def test_an_https_url_with_a_host_name_is_accepted(url):
    assert not refused(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com/",
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "https:///path",
        "https://",
        "https://user@example.com/",
        "https://user:password@example.com/",
        "https://@example.com/",
        "https://example.com:80/",
        "https://example.com:22/",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://example.com:x/",
        "https://exa mple.com/",
        "https://example.com/a b",
        "https://example.com/\r\nX: y",
        "https://example.com/\t",
        "https://example.com\\@10.0.0.1/",
        "https://example.com/\0",
        "https://ex%61mple.com/",
        "https://-\N{ZERO WIDTH SPACE}.com/",
        "https://a..com/",
        f"https://{'a' * 64}.com/",
        f"https://{'a.' * 130}com/",
        "https://example.com/" + "a" * 2048,
        "https://[::1/",
        "https://[v1.x]/",
    ],
)
def test_other_schemes_ports_and_malformed_urls_are_refused(url):
    assert refused(url)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "redis",
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0X7F.0.0.1",
        "0x7f.0x0.0x0.0x1",
        "0177.0.0.1",
        "017700000001",
        "0",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "8.8.8.8",  # public, but a certificate is for a name
        "127。0。0。1",
        "１２７.０.０.１",
        "①②⑦.⓪.⓪.①",
        "ｌｏｃａｌｈｏｓｔ",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fe80::1%25eth0]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "[2606:4700::1111]",
    ],
)
def test_an_address_is_refused_in_every_spelling(host):
    assert refused(f"https://{host}/")
    assert refused(f"https://{host}:8443/x")


SPELLINGS = {
    "https://hooks.example/a?b=C#d": [
        "https://HOOKS.example/a?b=C#d",
        "HTTPS://hooks.example/a?b=C#d",
        "https://hooks.example./a?b=C#d",
        "https://hooks.example:443/a?b=C#d",
        "https://hooks.example:0000443/a?b=C#d",
        "https://hooks.example.:00443/a?b=C#d",
        "https://ｈｏｏｋｓ.example/a?b=C#d",
        "https://hooks。example/a?b=C#d",
        "https://hooks.example:/a?b=C#d",
    ],
    "https://hooks.example:8443": [
        "https://hooks.example:08443",
        "https://HOOKS.EXAMPLE.:0008443",
    ],
    "https://xn--bcher-kva.example/größe": [
        "https://bücher.example/größe",
        "https://BÜCHER.example/größe",
        "https://bu\N{COMBINING DIAERESIS}cher.example/größe",
        "https://XN--BCHER-KVA.example:443/größe",
        "https://bücher.example.:0443/größe",
    ],
    "http://127.0.0.1:19801/hook": [
        "http://127.0.0.1:0019801/hook",
        "HTTP://127.0.0.1.:19801/hook",
    ],
}


@pytest.mark.parametrize("canonical", SPELLINGS)
def test_every_spelling_of_a_receiver_is_kept_as_one(canonical):
    allow = parse_allow("127.0.0.1:19801")
    assert {vet_url(url, allow) for url in (canonical, *SPELLINGS[canonical])} == {canonical}


def test_a_url_that_grows_too_long_is_refused():
    path = "x" * (2048 - len("https://bücher.example/"))
    assert refused(f"https://bücher.example/{path}")


PRIVATE = [
    *("0.0.0.0", "0.1.2.3", "10.1.2.3", "100.64.0.1", "100.127.255.255", "127.0.0.1"),
    *("127.255.255.254", "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255"),
    *("192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.19.255.255"),
    *("198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::808:808"),
    *("64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1"),
    *("3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1"),
    *("ff02::1", "4000::1", "not an address", "", "8.8.8.8.8", "0x08080808"),
]


@pytest.mark.parametrize("address", PRIVATE)
def test_other_addresses_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "172.15.0.1", "172.32.0.1", "2606:4700::1111", "2a00::1"]
)
def test_public_addresses_are_public(address):
    assert is_public(address)


@given(st.ip_addresses())
def test_no_special_address_is_public(ip):
    if is_public(str(ip)):
        assert ip.is_global
        assert not (ip.is_multicast or ip.is_private or ip.is_loopback or ip.is_reserved)


@given(st.ip_addresses(v=4))
def test_no_ipv6_form_of_an_ipv4_address_is_public(ip):
    packed = int(ip)
    for form in (
        packed,
        0xFFFF << 32 | packed,
        0x64FF9B << 96 | packed,
        0x2002 << 112 | packed << 80,
    ):
        assert not is_public(str(ipaddress.IPv6Address(form)))


def test_the_allow_list_is_read_from_the_setting():
    assert parse_allow("") == frozenset()
    assert parse_allow(" 127.0.0.1:8080, Hooks.Internal.:443 ,[::1]:9000,") == {
        ("127.0.0.1", 8080),
        ("hooks.internal", 443),
        ("::1", 9000),
    }


@pytest.mark.parametrize(
    "text",
    [
        "localhost",
        "localhost:",
        "localhost:x",
        ":80",
        "http://a:80",
        "a:80/x",
        "u@a:80",
        "*:80 b:1",
    ],
)
def test_a_malformed_allow_list_is_an_error(text):
    with pytest.raises(ValueError, match="is not host:port"):
        parse_allow(text)


def test_an_exception_applies_to_that_host_and_port_only():
    allow = parse_allow("127.0.0.1:8080,redis:80,[::1]:9000")
    for url in (
        "http://127.0.0.1:8080/",
        "https://127.0.0.1:8080/",
        "http://redis/",
        "http://[::1]:9000/",
    ):
        assert not refused(url, allow)
    for url in (
        "http://127.0.0.1:8081/",
        "http://127.0.0.1/",
        "https://127.0.0.1/",
        "http://127.0.0.2:8080/",
        "http://2130706433:8080/",
        "http://localhost:8080/",
        "https://redis/",
        "http://user@127.0.0.1:8080/",
        "ftp://127.0.0.1:8080/",
    ):
        assert refused(url, allow)
