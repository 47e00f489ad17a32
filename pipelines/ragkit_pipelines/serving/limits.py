"""What a client can make the server receive, hold and compute."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ragkit.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits on the requests to a server. Requests beyond them are rejected before they reach the model.

    Attributes:
        body_bytes: Maximum size of the body of a request.
        bodies: Maximum number of bodies of that size, or of the same size in total, that are received or processed at
            once; more are rejected with status 503.
        values: Maximum number of JSON values in a body.
        schema_bytes: Maximum size of a JSON schema or a grammar in a request.
        connections: Maximum number of connections; beyond it, the one that has waited longest for a request is closed.
        receive_seconds: Time in which a client must send a complete request.
        stall_seconds: Time for which a client may stop reading a response.
    """

    body_bytes: int = 2**20
    bodies: int = 64
    values: int = 20_000
    schema_bytes: int = 2**16
    connections: int = 512
    receive_seconds: float = 20.0
    stall_seconds: float = 20.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise InvalidInputError(f"`{each.name}` must be a number greater than 0, got {value!r}")
