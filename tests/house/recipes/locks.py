"""Locks, on an app of their own: the others must stay deletable."""

from collections.abc import Callable
from typing import Any

from tests.house.town import Recipe, Town


def _locked_app(town: Town) -> str:
    return str(town.cloud.app("town-locked", town["other_space"])["guid"])


def _body(app: str, title: str) -> dict[str, Any]:
    return {"title": title, "detail": "", "relationships": {"app": {"data": {"guid": app}}}}


def _lock(town: Town) -> str:
    return str(town.cloud.admin.ok("POST", "/v3/locks", _body(town["locked_app"], "keep"), 201)["guid"])


MAKERS: dict[str, Callable[[Town], str]] = {"locked_app": _locked_app, "lock": _lock}

RECIPES = {
    "GET /v3/locks": Recipe(sees="lock"),
    "GET /v3/locks/{guid}": Recipe("lock"),
    "POST /v3/locks": Recipe(body=_body("$locked_app", "new")),
    "PATCH /v3/locks/{guid}": Recipe("lock", {"detail": "changed"}),
    "DELETE /v3/locks/{guid}": Recipe("lock"),
}
