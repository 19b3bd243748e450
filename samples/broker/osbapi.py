"""The Open Service Broker API: catalog, instances, bindings."""

import secrets
from typing import Any

from flask import Blueprint, request
from plans import MAINTENANCE, SLOW, catalog, limit
from state import State

Answer = tuple[dict[str, Any], int]


def problem(status: int, description: str, error: str = "") -> Answer:
    """An error as the specification has them."""
    return {"description": description, **({"error": error} if error else {})}, status


def blueprint(state: State) -> Blueprint:
    """The routes under /v2."""
    api = Blueprint("osbapi", __name__, url_prefix="/v2")

    @api.get("/catalog")
    def show_catalog() -> dict[str, Any]:
        with state.open() as document:
            return catalog(document)

    _instances(api, state)
    _removal(api, state)
    _bindings(api, state)
    return api


def _instances(api: Blueprint, state: State) -> None:
    @api.put("/service_instances/<guid>")
    def provision(guid: str) -> Answer:
        body = request.get_json()
        with state.open() as document:
            known = document["instances"].get(guid)
            asked = {name: body.get(name) for name in ("plan_id", "parameters", "space_guid")}
            if known is not None:
                return ({}, 200) if known["request"] == asked else problem(409, "This instance exists and is different")
            wrong = _wrong(document, body)
            if wrong is not None:
                return wrong
            document["instances"][guid] = {
                "plan_id": body["plan_id"],
                "parameters": body.get("parameters") or {},
                "notes": {},
                "request": asked,
            }
            return _answer(state, document, guid, body["plan_id"], 201)

    @api.patch("/service_instances/<guid>")
    def update(guid: str) -> Answer:
        body = request.get_json()
        with state.open() as document:
            instance = document["instances"].get(guid)
            if instance is None:
                return problem(404, "There is no such instance")
            plan_id = body.get("plan_id") or instance["plan_id"]
            wrong = _wrong(document, {**body, "plan_id": plan_id})
            if wrong is not None:
                return wrong
            room = limit(document, plan_id) or 0
            if len(instance["notes"]) > room:
                return problem(400, f"There are {len(instance['notes'])} notes, and that plan has room for {room}")
            instance["plan_id"] = plan_id
            instance["parameters"] = {**instance["parameters"], **(body.get("parameters") or {})}
            return _answer(state, document, guid, plan_id, 200)


def _removal(api: Blueprint, state: State) -> None:
    @api.delete("/service_instances/<guid>")
    def deprovision(guid: str) -> Answer:
        with state.open() as document:
            instance = document["instances"].get(guid)
            if instance is None:
                return {}, 410
            if instance["plan_id"] == SLOW and not _accepts_incomplete():
                return _async_required()
            del document["instances"][guid]
            document["backups"].pop(guid, None)
            for binding in [one for one, found in document["bindings"].items() if found["instance"] == guid]:
                del document["bindings"][binding]
            return _answer(state, document, guid, instance["plan_id"], 200)

    @api.get("/service_instances/<guid>")
    def fetch(guid: str) -> Answer:
        with state.open() as document:
            instance = document["instances"].get(guid)
            if instance is None:
                return problem(404, "There is no such instance")
            return {"plan_id": instance["plan_id"], "parameters": instance["parameters"]}, 200

    @api.get("/service_instances/<guid>/last_operation")
    def last_operation(guid: str) -> Answer:
        with state.open() as document:
            return poll(state, document, request.args.get("operation", ""))


def _bindings(api: Blueprint, state: State) -> None:
    @api.put("/service_instances/<guid>/service_bindings/<binding>")
    def bind(guid: str, binding: str) -> Answer:
        body = request.get_json()
        with state.open() as document:
            if guid not in document["instances"]:
                return problem(404, "There is no such instance")
            if body.get("parameters"):
                return problem(400, "Bindings take no parameters")
            known = document["bindings"].get(binding)
            if known is None:
                known = document["bindings"][binding] = {
                    "instance": guid,
                    "username": f"user-{secrets.token_hex(4)}",
                    "password": secrets.token_urlsafe(24),
                }
                return _bound(binding, known), 201
            return (
                (_bound(binding, known), 200)
                if known["instance"] == guid
                else problem(409, "This binding is another's")
            )

    @api.get("/service_instances/<guid>/service_bindings/<binding>")
    def fetch_binding(guid: str, binding: str) -> Answer:
        with state.open() as document:
            known = document["bindings"].get(binding)
            if known is None or known["instance"] != guid:
                return problem(404, "There is no such binding")
            return _bound(binding, known), 200

    @api.delete("/service_instances/<guid>/service_bindings/<binding>")
    def unbind(guid: str, binding: str) -> Answer:
        with state.open() as document:
            return ({}, 200) if document["bindings"].pop(binding, None) else ({}, 410)


def _wrong(document: dict[str, Any], body: dict[str, Any]) -> Answer | None:
    """What is wrong with a request for an instance."""
    room = limit(document, body["plan_id"])
    if room is None:
        return problem(400, f"There is no plan {body['plan_id']}")
    wanted = (body.get("parameters") or {}).get("max_notes", 1)
    if type(wanted) is not int or not 1 <= wanted <= room:
        return problem(400, f"max_notes must be a number from 1 to {room}")
    unknown = set(body.get("parameters") or {}) - {"max_notes"}
    if unknown:
        return problem(400, f"Unknown parameters: {', '.join(sorted(unknown))}")
    if (body.get("maintenance_info") or MAINTENANCE)["version"] != MAINTENANCE["version"]:
        return problem(422, "The catalog has another version by now", "MaintenanceInfoConflict")
    if body["plan_id"] == SLOW and not _accepts_incomplete():
        return _async_required()
    return None


def _accepts_incomplete() -> bool:
    return request.args.get("accepts_incomplete") == "true"


def _async_required() -> Answer:
    return problem(422, "This plan takes its time", "AsyncRequired")


def _answer(state: State, document: dict[str, Any], guid: str, plan_id: str, status: int) -> Answer:
    """Done, or going on where the plan is slow."""
    return ({"operation": state.begin(document, guid)}, 202) if plan_id == SLOW else ({}, status)


def poll(state: State, document: dict[str, Any], name: str) -> Answer:
    """How far an operation is."""
    try:
        done = state.is_done(document, name)
    except KeyError:
        return problem(400, "There is no such operation")
    return {"state": "succeeded" if done else "in progress", "description": "done" if done else "thinking"}, 200


def _bound(binding: str, known: dict[str, Any]) -> dict[str, Any]:
    scheme = request.headers.get("X-Forwarded-Proto", request.scheme)
    uri = f"{scheme}://{request.host}/notes/{known['instance']}"
    return {"credentials": {"uri": uri, "username": known["username"], "password": known["password"]}}
