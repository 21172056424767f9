"""The cookie that an application hands to the browser, and what comes back in requests.

`__Host-` and `Path=/` bind it to one host over TLS; no script reads it; other sites' pages do not send it with what
they post. A session of a higher assurance gets no `Max-Age`: it is not to outlive the browser's window.

Sources: RFC 6265bis, OWASP ASVS 5.0 V3.3, NIST SP 800-63B-4 5.1.1.
"""

from dataclasses import replace

from litestar.datastructures import Cookie

from services.sessions.bounds import ABSOLUTE_MS_MAX
from services.sessions.policy import Policy
from services.sessions.records import SessionView

HOST_COOKIE = "__Host-sid"
DOMAIN_COOKIE = "__Secure-sid"
LOWEST = "aal1"
_NAMES = (HOST_COOKIE.encode(), DOMAIN_COOKIE.encode())


def set_cookie(token: str, session: SessionView, policy: Policy, now_ms: int) -> str:
    """The value of a `Set-Cookie` field for a token."""
    name = DOMAIN_COOKIE if policy.cookie_domain else HOST_COOKIE
    domain = f"; Domain={policy.cookie_domain}" if policy.cookie_domain else ""
    seconds = max(0, min(session.expires_ms - now_ms, ABSOLUTE_MS_MAX) // 1000)
    age = f"; Max-Age={seconds}" if session.acr == LOWEST else ""
    return f"{name}={token}; Path=/; Secure; HttpOnly; SameSite=Lax{domain}{age}"


def clear_cookies(policy: Policy) -> list[Cookie]:
    """What takes it away: that of one host, which may be left of before the policy named a domain, and that of this."""
    gone = Cookie(HOST_COOKIE, value="", max_age=0, secure=True, httponly=True, samesite="lax")
    if not policy.cookie_domain:
        return [gone]
    return [gone, replace(gone, key=DOMAIN_COOKIE, domain=policy.cookie_domain)]


def cookie_tokens(field: bytes) -> tuple[bytes, bytes]:
    """The tokens of our two cookies in a `Cookie` field, that of one host first.

    Empty where there is none, or more than one of that name.
    """
    found: dict[bytes, list[bytes]] = {name: [] for name in _NAMES}
    for name, separator, value in (part.partition(b"=") for part in field.split(b";")):
        if separator and name.strip() in found:
            found[name.strip()].append(value.strip())
    host, domain = (values[0] if len(values) == 1 else b"" for values in found.values())
    return host, domain
