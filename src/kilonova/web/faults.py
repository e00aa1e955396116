"""Errors in each service's own words; the one place where an exception becomes an HTTP answer."""

import http
import logging
from typing import Any
from xml.sax.saxutils import escape  # `html` has a table of all entities in memory

from sqlalchemy.exc import SQLAlchemyError

from kilonova.model.errors import APIError
from kilonova.web.service import Fault

log = logging.getLogger(__name__)

NOVA_NAMES = {
    400: "badRequest", 401: "unauthorized", 403: "forbidden", 404: "itemNotFound", 405: "badMethod",
    406: "notAcceptable", 409: "conflictingRequest", 413: "overLimit", 415: "badMediaType", 429: "overLimit",
    501: "notImplemented", 503: "serviceUnavailable",
}  # fmt: skip


def title(status: int) -> str:
    return http.HTTPStatus(status).phrase


def nova(fault: Fault) -> Any:
    name = NOVA_NAMES.get(fault.status, "computeFault")
    return {name: {"code": fault.status, "message": fault.message}}


def keystone(fault: Fault) -> Any:
    return {"error": {"code": fault.status, "title": title(fault.status), "message": fault.message}}


def neutron(fault: Fault) -> Any:
    return {"NeutronError": {"type": fault.type, "message": fault.message, "detail": ""}}


def glance(fault: Fault) -> Any:
    """Glance answers errors as a small HTML page; its client shows the text of it."""
    heading = f"{fault.status} {title(fault.status)}"
    return (
        f"<html>\n <head>\n  <title>{heading}</title>\n </head>\n <body>\n  <h1>{heading}</h1>\n"
        f"  {escape(fault.message)}<br /><br />\n\n </body>\n</html>"
    ).encode()


def placement(fault: Fault) -> Any:
    error = {
        "status": fault.status,
        "title": title(fault.status),
        "detail": fault.message,
        "request_id": fault.request_id,
    }
    if fault.version >= (1, 23):
        error["code"] = fault.code or "placement.undefined_code"
    return {"errors": [error]}


def from_exception(error: Exception, request_id: str) -> Fault:
    """APIErrors as they say; anything else is our defect: logged whole, and told with the request's id."""
    if isinstance(error, APIError):
        return Fault(error.status, error.message, error.type, error.code, request_id, headers=error.headers)
    kind = "database" if isinstance(error, SQLAlchemyError) else "server"
    log.error("%s: unexpected %s error", request_id, kind, exc_info=error)
    message = f"Unexpected {kind} error; the log has it under {request_id}."
    return Fault(500, message, "HTTPInternalServerError", None, request_id)
