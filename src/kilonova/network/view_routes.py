"""The routes by which a network is looked at: nothing of Neutron's, so below a name of our own."""

from kilonova.network import captures, path_views
from kilonova.web.call import Route
from kilonova.web.policy import project_member, project_reader

ROUTES: dict[str, Route] = {
    "GET /v2.0/kilonova/ports/{id}/capture": Route(captures.capture, "capture_port", tx="none"),
    "GET /v2.0/kilonova/path": Route(path_views.show, "get_path", tx="none"),
}
POLICY = {"capture_port": project_member, "get_path": project_reader}
