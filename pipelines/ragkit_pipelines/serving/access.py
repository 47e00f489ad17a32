"""Who may use the server: the token, and protection from web pages that a user of this machine has opened."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from ragkit_pipelines.serving.replies import error_body

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class Access:
    """Rejects requests before their body is read. ``/health`` needs no token.

    Without a token, a web page could reach the server through the browser of a user, under a name that its author
    lets point to this machine (DNS rebinding). Therefore ``Host`` and ``Origin`` must then contain an IP address,
    ``localhost`` or an allowed name.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, hosts: Iterable[str]) -> None:
        """Wrap an application.

        Args:
            app: The application.
            token: Bearer token that every request must contain; None to accept all requests.
            hosts: Names under which the server may be reached.
        """
        self._app = app
        self._digest = None if token is None else _digest(token)
        self._hosts = {"localhost", *(host.lower().rstrip(".") for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond with an error, or pass the request on."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        if "content-length" in headers and "transfer-encoding" in headers:
            # A proxy may have read the other length, so nothing that follows on this connection can be trusted.
            body = error_body("a request must not have both content-length and transfer-encoding", "invalid_http")
            return JSONResponse(body, 400, {"connection": "close"})
        if self._digest is None:
            for name, prefix in (("host", "//"), ("origin", "")):
                if name in headers and not self._is_allowed(prefix + headers[name]):
                    message = f"the header {name} names a host that is not allowed; use an IP address or allow the name"
                    return JSONResponse(error_body(message, f"invalid_{name}"), 403)
        elif scope["path"] != "/health" and not self._is_authorized(headers.get("authorization", "")):
            body = error_body("the bearer token is missing or wrong", "invalid_api_key")
            return JSONResponse(body, 401, {"www-authenticate": "Bearer"})
        return None

    def _is_allowed(self, address: str) -> bool:
        try:
            host = urlsplit(address).hostname or ""
        except ValueError:
            return False
        return host.rstrip(".") in self._hosts or is_ip_address(host)

    def _is_authorized(self, header: str) -> bool:
        scheme, _, given = header.partition(" ")
        # Hashes have equal lengths, so the time of the comparison does not reveal the length of the token.
        equal = hmac.compare_digest(_digest(given), self._digest or b"")
        return equal and scheme.lower() == "bearer"


def is_ip_address(host: str) -> bool:
    """Whether a host is an IP address and not a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
