"""Microversion negotiation, in both header forms (API working group's guideline; Nova's legacy header)."""

from starlette.datastructures import Headers

from kilonova.model.errors import BadRequest, NotAcceptable
from kilonova.web.call import Version
from kilonova.web.service import Microversions


def text(version: Version) -> str:
    return f"{version[0]}.{version[1]}"


def negotiate(headers: Headers, offered: Microversions) -> Version:
    """The version a request asks for. BadRequest when it is no version, NotAcceptable when it is not offered.

    A header that comes several times is as one with commas (RFC 9110, 5.3): one for each service, say.
    """
    asked = None
    for part in ",".join(headers.getlist("openstack-api-version")).split(","):
        words = part.split()
        if len(words) == 2 and words[0].lower() in (offered.type, *offered.also):
            asked = words[1]
    if asked is None and offered.legacy_header:
        asked = headers.get(offered.legacy_header.lower())
    if asked is None:
        return offered.default
    if asked == "latest":
        return offered.maximum
    major, dot, minor = asked.partition(".")
    digits = major.isascii() and major.isdigit() and minor.isascii() and minor.isdigit()
    if not dot or not digits or len(asked) > 9 or (minor != "0" and minor.startswith("0")):
        raise BadRequest(
            f"API Version String {asked} is of invalid format. Must be of format MajorNum.MinorNum.",
        )
    version = (int(major), int(minor))
    if not offered.minimum <= version <= offered.maximum:
        raise NotAcceptable(
            f"Version {asked} is not supported by the API. Minimum is {text(offered.minimum)} and "
            f"maximum is {text(offered.maximum)}."
        )
    return version


def headers(version: Version, offered: Microversions) -> dict[str, str]:
    """What every answer says of the version it was made with."""
    out = {"OpenStack-API-Version": f"{offered.type} {text(version)}", "Vary": "OpenStack-API-Version"}
    if offered.legacy_header:
        out[offered.legacy_header] = text(version)
        out["Vary"] += f", {offered.legacy_header}"
    return out
