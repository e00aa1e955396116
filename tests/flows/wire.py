"""The seam over a wire that is none: each argument and each answer goes through JSON, as it will to an agent's host."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from kilonova.flow.log import Stale
from kilonova.model.errors import HostError

ERRORS = {error.__name__: error for error in (Stale, HostError)}


def wired(contract: type, target: Any) -> Any:
    """All that `contract`, a Protocol, has, and nothing else of `target`."""
    wire = type(f"Wired{contract.__name__}", (), {})()
    for name, method in vars(contract).items():
        if not name.startswith("_") and callable(method):
            setattr(wire, name, _call(method, getattr(target, name)))
    return wire


def _call(method: Callable[..., Any], target: Callable[..., Any]) -> Callable[..., Any]:
    hints, signature = get_type_hints(method), inspect.signature(method)

    @wraps(method)
    def call(*args: Any, **named: Any) -> Any:
        bound = signature.bind(None, *args, **named).arguments
        request = {name: value for name, value in bound.items() if name != "self"}
        received = {name: _cross(value, hints[name]) for name, value in request.items()}
        try:
            reply = {"answer": target(**received)}
        except tuple(ERRORS.values()) as error:
            reply = {"error": [type(error).__name__, str(error)]}
        if "error" in reply:
            kind, words = _cross(reply["error"], list[str])
            raise ERRORS[kind](words)
        return _cross(reply["answer"], hints["return"])

    return call


def _cross(value: Any, kind: Any) -> Any:
    text = msgspec.json.encode(value, enc_hook=_encode)
    return msgspec.json.decode(text, type=kind, dec_hook=lambda wanted, found: wanted(found))


def _encode(value: Any) -> str:
    assert isinstance(value, Path), f"{value!r} does not go over a wire"
    return str(value)
