"""The routes of segments, which are the administrators'."""

from dataclasses import replace

from kilonova.network import segment_requests as s
from kilonova.network import views
from kilonova.network.address_routes import resource
from kilonova.network.handlers import lister
from kilonova.web.call import Route
from kilonova.web.policy import admin, project_reader

OF_SEGMENTS = resource("segment", "segments", views.segment_bodies, s.list_page, s.get, s.create, s.delete, s.update)
ROUTES: dict[str, Route] = {
    **{key: replace(route, hidden="{id}" in key) for key, route in OF_SEGMENTS.items()},
    "GET /v2.0/segments": Route(lister("segments", s.list_page, views.segment_bodies), "list_segments"),
}
POLICY = {
    **{f"{verb}_segment": admin for verb in ("create", "get", "update", "delete")},
    "list_segments": project_reader,  # empty but for administrators
}
