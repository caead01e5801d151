"""Forms of attacks that the tests try, in one place so that docs/security.md can count them."""

import ipaddress
import re
from collections.abc import Iterator, Mapping

from tests.support import documents

# Addresses inside a network, or of the machine itself; the last ones are of metadata services.
INSIDE = (
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "169.254.169.254",
    "168.63.129.16",
)
INSIDE_V6 = ("::1", "::", "fe80::1", "fd00:ec2::254", "fc00::1", "ff02::1", "fec0::1")
NAMES = ("localhost", "ip6-localhost", "redis", "postgres", "kubernetes")
WIDE = str.maketrans("0123456789.", "０１２３４５６７８９．")
IDEOGRAPHIC = str.maketrans({".": "。"})


def spellings(address: str) -> Iterator[str]:
    """One IPv4 address as URL parsers, resolvers and browsers have been known to read it."""
    value = int(ipaddress.IPv4Address(address))
    parts = address.split(".")
    a, b, c, d = map(int, parts)
    yield address
    yield f"{address}."
    yield f"{a}.{b}.{(c << 8) + d}"
    yield f"{a}.{value & 0xFFFFFF}"
    yield str(value)
    yield hex(value)
    yield hex(value).upper()
    yield ".".join(map(hex, (a, b, c, d)))
    yield f"0{value:o}"
    yield ".".join(f"0{part:o}" for part in (a, b, c, d))
    yield ".".join(f"{part:0>4}" for part in parts)
    yield address.translate(WIDE)
    yield address.translate(IDEOGRAPHIC)
    yield "".join(f"%{ord(letter):02x}" for letter in address)
    mapped = f"{value >> 16:x}:{value & 0xFFFF:x}"
    yield f"[::ffff:{address}]"
    yield f"[::ffff:{mapped}]"
    yield f"[0:0:0:0:0:ffff:{mapped}]"
    yield f"[::{address}]"
    yield f"[64:ff9b::{address}]"
    yield f"[64:ff9b::{mapped}]"
    yield f"[2002:{mapped}::]"


def hosts() -> list[str]:
    """Hosts that must not be reached, in every spelling."""
    v6 = [f"[{address}]" for address in INSIDE_V6]
    v6 += [f"[{ipaddress.IPv6Address(address).exploded}]" for address in INSIDE_V6]
    v6 += [f"[{address}%25eth0]" for address in INSIDE_V6]
    names = [form(name) for name in NAMES for form in (str, str.upper, "{}.".format)]
    return [*(form for address in INSIDE for form in spellings(address)), *v6, *names]


def urls() -> list[str]:
    """SSRF: URLs that must be refused before anything is resolved or connected to."""
    around = [
        template.format(host)
        for host in hosts()
        for template in ("https://{}/", "https://{}:8443/a.jpg")
    ]
    hidden = [
        template
        for host in ("127.0.0.1", "169.254.169.254", "localhost")
        for template in (
            f"https://example.com@{host}/",
            f"https://example.com:443@{host}/",
            f"https://{host}\\@example.com/",
            f"https://{host}#@example.com/",
            f"https://example.com\\@{host}/",
            f"http://{host}/",
            f"ftp://{host}/",
            f"gopher://{host}:6379/_FLUSHALL",
            f"dict://{host}:6379/info",
            f"jar:https://{host}!/",
            f"https://{host}:22/",
            f"https://{host}:6379/",
            f"https://{host}\r\nHost: example.com/",
            f" https://{host}/",
        )
    ]
    return [*around, *hidden, "file:///etc/passwd", "file://localhost/etc/passwd"]


CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
# CSRF: what a browser adds to a request that another site causes, and what it leaves out.
FOREIGN: tuple[Mapping[str, str], ...] = (
    {},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "https://localhost.evil.example"},
    {"Origin": "http://localhost:81"},
    {"Referer": "http://localhost/"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
)

# XSS: texts that run where they become markup, an attribute, a script or a template.
MARKUP = (
    "<script>hit()</script>",
    "<img src=x onerror=hit()>",
    "<svg onload=hit()>",
    "<svg><script>hit()</script></svg>",
    '"><script>hit()</script>',
    "'><img src=x onerror=hit()>",
    '" autofocus onfocus=hit() x="',
    "</title><script>hit()</script>",
    "</textarea><script>hit()</script>",
    "</script><script>hit()</script>",
    "<iframe srcdoc='<script>parent.hit()</script>'>",
    "<a href=javascript:hit()>x</a>",
    "javascript:hit()",
    "<details open ontoggle=hit()>",
    "<video><source onerror=hit()></video>",
    "<body onload=hit()>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=hit()>",
    "<noscript><p title='</noscript><img src=x onerror=hit()>'>",
    "<!--><img src=x onerror=hit()>-->",
    "<style>@import 'javascript:hit()';</style>",
    "<base href=https://evil.example/>",
    "<meta http-equiv=refresh content='0;url=javascript:hit()'>",
    "<object data=javascript:hit()>",
    "{{constructor.constructor('hit()')()}}",
    "${hit()}",
    "{% include '/etc/passwd' %}",
    "\u003cscript\u003ehit()\u003c/script\u003e\u2028",
    "&lt;script&gt;hit()&lt;/script&gt;",
)


def altered(query: Mapping[str, str]) -> list[dict[str, str]]:
    """Signed URLs: the query of one in every form that must not be accepted."""
    forms: list[dict[str, str]] = [{}]
    for name, value in query.items():
        others = {key: each for key, each in query.items() if key != name}
        changes = (
            *(value + "0", value[:-1], "0" + value, value.swapcase() + " ", value * 2),
            *("", " ", "0", "-1", "null", "9" * 20, "é", "\ud800", "a\0", "%00", "../a"),
        )
        forms += [others, *(query | {name: change} for change in changes if change != value)]
        forms += [query | {name: query[other]} for other in others if query[other] != value]
    return forms


def documented(kind: str) -> int:
    """How many forms docs/security.md says are tried; there may be more."""
    [number] = re.findall(rf"^\| {kind} \| (\d+) \|", documents.read("docs/security.md"), re.M)
    return int(number)
