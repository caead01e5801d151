"""Which URLs a request may go to: the guard against server-side request forgery (SSRF).

API callers supply the URLs of pictures and webhooks; these must reach the public internet and
nothing else. There is no off switch. `allow` exempts single host:port pairs from vetting.
"""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import idna

from app.domain.errors import BadRequest

PORTS = (443, 8443)
MAX_URL_CHARS = 2048

Allow = frozenset[tuple[str, int]]

# For the operator who tries webhooks on a laptop, where every address is private.
EXEMPT = "The server's setting OUTBOUND_ALLOW can exempt a host and port."

# In IPv6, global unicast is a single block: everything outside it (loopback, link-local, private,
# multicast, mapped IPv4, NAT64's 64:ff9b::/96) is refused, and special ranges inside it are listed.
_GLOBAL_V6 = ipaddress.ip_network("2000::/3")
_SPECIAL = tuple(
    ipaddress.ip_network(block)
    for block in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT, and some clouds' metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host: a public address that answers from inside
        "169.254.0.0/16",  # link-local, and most clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address in disguise
        "3fff::/20",
    )
)


def parse_allow(text: str) -> Allow:
    """Read the setting OUTBOUND_ALLOW, "host:port,host:port"; IPv6 as "[::1]:8080".

    Raises:
        ValueError: an entry is not host:port.
    """
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    return frozenset(_parse_allow_entry(entry) for entry in entries)


def _parse_allow_entry(entry: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{entry}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port is None or parts.netloc != entry or "@" in entry:
        raise ValueError(f"{entry!r} is not host:port")
    return _ascii_host(host), port


def vet_url(url: str, allow: Allow = frozenset()) -> str:
    """Check a URL without resolving its host, for URLs that are used later.

    Returns it with scheme, host and port in their one canonical spelling (RFC 3986, section 6.2),
    so that `:443`, `:0443`, a trailing dot, upper case and the forms of an international name do
    not count as different receivers. Path and query stay as they are.

    Raises:
        BadRequest: url_not_allowed.
    """
    target = target_of(url, allow)
    scheme = "https" if target.secure else "http"
    canonical = urlsplit(url)._replace(scheme=scheme, netloc=target.host_header).geturl()
    if len(canonical) > MAX_URL_CHARS:  # punycode is longer
        raise refusal("url_not_allowed", f"The URL is longer than {MAX_URL_CHARS} characters.")
    return canonical


def is_public(address: str) -> bool:
    """Whether an address, as the resolver spells it, belongs to the public internet."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if ip.version == 6 and ip not in _GLOBAL_V6:
        return False
    return not any(ip in block for block in _SPECIAL)


@dataclass(frozen=True)
class Target:
    """A vetted URL, in parts."""

    secure: bool
    host: str  # ASCII, lower case, no trailing dot, no brackets
    port: int
    path: str
    exempt: bool  # on the allow list: address and scheme are not vetted

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


_NAME = re.compile(r"(?=.{4,253}$)([a-z0-9_-]{1,63}\.)+[a-z0-9-]{1,63}")
# Includes 127.1, 0x7f.1, 2130706433 and the like: no top-level domain is a number.
_LITERAL = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)")


def target_of(url: str, allow: Allow) -> Target:
    """Take a URL apart and vet everything but its host's addresses.

    Raises:
        BadRequest: url_not_allowed.
    """
    if len(url) > MAX_URL_CHARS:
        raise refusal("url_not_allowed", f"The URL is longer than {MAX_URL_CHARS} characters.")
    # urlsplit drops some of these, and browsers read a backslash as a slash. Refuse to guess.
    if not url.isprintable() or " " in url or "\\" in url:
        raise refusal("url_not_allowed", "The URL has a space, backslash or control character.")
    try:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        host = _ascii_host(parts.hostname or "")
        port = parts.port if parts.port is not None else (443 if secure else 80)
    except ValueError:
        raise refusal("url_not_allowed", "The URL is not valid.") from None
    if parts.scheme not in ("https", "http") or not host:
        raise refusal("url_not_allowed", "The URL must begin with https:// and name a host.")
    if "@" in parts.netloc:
        raise refusal("url_not_allowed", "The URL must not contain a user name or password.")
    exempt = (host, port) in allow
    if not exempt:
        if not secure:
            raise not_exempt("The URL must begin with https://.")
        if port not in PORTS:
            raise not_exempt("The URL's port must be 443 or 8443.")
        if "[" in parts.netloc or _LITERAL.fullmatch(host) or not _NAME.fullmatch(host):
            raise not_exempt("The URL must name a public host, not an address.")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    query = f"?{quote(parts.query, safe=_QUERY_SAFE)}" if parts.query else ""
    return Target(secure, host, port, path + query, exempt)


_QUERY_SAFE = "/%:@!$&'()*+,;=~?[]"


def _ascii_host(host: str) -> str:
    """Return the host as the DNS spells it: ASCII, lower case, no trailing dot."""
    if not host.isascii():
        host = idna.encode(host, uts46=True).decode()  # IDNAError is a ValueError
    return host.lower().removesuffix(".")


def refusal(code: str, detail: str) -> BadRequest:
    """The error for a URL that is not, or could not be, requested."""
    return BadRequest(code, detail, status=422)


def not_exempt(detail: str) -> BadRequest:
    """A refusal that an operator can lift.

    The sentence about it is the same for every URL: it must not tell strangers what is on the list.
    """
    return refusal("url_not_allowed", f"{detail} {EXEMPT}")
