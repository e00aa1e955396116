"""The errors of Kilonova, one small tree; web/faults.py alone turns them into HTTP.

KilonovaError
├── APIError            an answer to a client, with its HTTP status
│   ├── BadRequest 400   ├── Unauthorized 401   ├── Forbidden 403 ── OverQuota
│   ├── NotFound 404     ├── NotAcceptable 406  ├── Conflict 409
│   ├── Gone 410         ├── PreconditionFailed 412
│   └── TooLarge 413, UnsupportedMediaType 415, TooManyRequests 429, Unavailable 503
├── HostError           a host could not do what it was asked (command, netlink, libvirt)
├── NoValidHost         scheduling: every host refused, and why
├── Cancelled           a long host step saw that another flow wants its server
└── Later               a step must wait: not a failure
"""


class KilonovaError(Exception):
    """The root; str() is a sentence for a person."""


class APIError(KilonovaError):
    """`type` is Neutron's exception name, or webob's where it has none of its own; `code` Placement's error code;
    `headers` those of the answer."""

    status = 500

    def __init__(self, message: str, *, type: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.type = type or f"HTTP{self.__class__.__name__}"
        self.code = code
        self.headers: dict[str, str] = {}


class BadRequest(APIError):
    status = 400


class Unauthorized(APIError):
    status = 401


class Forbidden(APIError):
    status = 403


class OverQuota(Forbidden):
    pass


class NotFound(APIError):
    status = 404


class NotAcceptable(APIError):
    status = 406


class Conflict(APIError):
    status = 409


class Gone(APIError):
    status = 410


class PreconditionFailed(APIError):
    status = 412


class TooLarge(APIError):
    status = 413


class UnsupportedMediaType(APIError):
    status = 415


class TooManyRequests(APIError):
    """`seconds`: after which the next may be answered."""

    status = 429

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.headers["Retry-After"] = str(seconds)


class Unavailable(APIError):
    status = 503


class HostError(KilonovaError):
    pass


class NoValidHost(KilonovaError):
    """`reasons`: host name → which rule refused it and the arithmetic."""

    def __init__(self, reasons: dict[str, str]) -> None:
        self.reasons = reasons
        detail = "; ".join(f"{host}: {why}" for host, why in sorted(reasons.items())) or "no host has reported yet"
        super().__init__(f"No valid host was found. {detail}.")


class Cancelled(KilonovaError):
    pass


class Later(KilonovaError):
    """Try this step again in `seconds`, or as soon as the row named `waits_for` (e.g. `port:<id>`) is written."""

    def __init__(self, seconds: float, waits_for: str | None = None) -> None:
        super().__init__(f"later, in {seconds:g} s")
        self.seconds = seconds
        self.waits_for = waits_for
