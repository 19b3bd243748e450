"""The service itself: notes of an instance, for whoever has the credentials of one of its bindings."""

import hmac
from typing import Any

from flask import Blueprint, abort, request
from osbapi import Answer, problem
from plans import limit
from state import State

MAX_BYTES = 10_000


def blueprint(state: State) -> Blueprint:
    """The routes under /notes."""
    api = Blueprint("notes", __name__, url_prefix="/notes/<guid>")

    def opened(document: dict[str, Any], guid: str) -> dict[str, Any]:
        given = request.authorization
        bindings = (one for one in document["bindings"].values() if one["instance"] == guid)
        known = next((one for one in bindings if given and one["username"] == given.username), None)
        if known is None or given is None or not hmac.compare_digest(known["password"], given.password or ""):
            abort(401, "Log in with the credentials of a binding")
        return document["instances"][guid]

    @api.get("")
    def list_notes(guid: str) -> Answer:
        with state.open() as document:
            return {"notes": opened(document, guid)["notes"]}, 200

    @api.get("/<key>")
    def read(guid: str, key: str) -> Any:
        with state.open() as document:
            note = opened(document, guid)["notes"].get(key)
            return (note, 200, {"Content-Type": "text/plain; charset=utf-8"}) if note is not None else ("", 404)

    @api.put("/<key>")
    def write(guid: str, key: str) -> Answer:
        text = request.get_data(as_text=True)
        if len(text.encode()) > MAX_BYTES:
            return problem(413, f"A note has at most {MAX_BYTES} bytes")
        with state.open() as document:
            instance = opened(document, guid)
            room = instance["parameters"].get("max_notes") or limit(document, instance["plan_id"]) or 0
            if key not in instance["notes"] and len(instance["notes"]) >= room:
                return problem(507, f"There is room for {room} notes only")
            instance["notes"][key] = text
            return {}, 200

    @api.delete("/<key>")
    def delete(guid: str, key: str) -> Answer:
        with state.open() as document:
            opened(document, guid)["notes"].pop(key, None)
            return {}, 200

    return api
