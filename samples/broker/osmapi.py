"""OSMAPI: backups of instances, and plans that the platform's admins define (docs/osmapi.md)."""

import datetime
import secrets
import time
from typing import Any

from flask import Blueprint, request
from osbapi import Answer, poll, problem
from plans import LIMITS, SERVICE_ID, SLOW
from state import State

SCHEMA = {
    "$schema": "http://json-schema.org/draft-04/schema#",
    "type": "object",
    "required": ["max_notes"],
    "properties": {
        "max_notes": {"type": "integer", "minimum": 1, "maximum": 100_000, "title": "Notes per instance"},
        "free": {"type": "boolean", "title": "Costs nothing"},
    },
    "additionalProperties": False,
}
UI_SCHEMA = {"ui:order": ["max_notes", "free"]}


def blueprint(state: State) -> Blueprint:
    """The routes under /osmapi/v1."""
    api = Blueprint("osmapi", __name__, url_prefix="/osmapi/v1")
    _backups(api, state)
    _definitions(api, state)
    return api


def _backups(api: Blueprint, state: State) -> None:
    @api.get("/service_instances/<guid>/backups")
    def list_backups(guid: str) -> Answer:
        limit = int(request.args.get("limit", "100"))
        with state.open() as document:
            found = document["backups"].get(guid, [])
            shown = [{"id": one["id"], "created_at": one["created_at"]} for one in reversed(found)]
            return {"backups": shown[:limit]}, 200

    @api.post("/service_instances/<guid>/backups")
    def create_backup(guid: str) -> Answer:
        with state.open() as document:
            instance = document["instances"].get(guid)
            if instance is None:
                return problem(404, "There is no such instance")
            backup = {"id": secrets.token_hex(8), "created_at": int(time.time()), "notes": dict(instance["notes"])}
            document["backups"].setdefault(guid, []).append(backup)
            if instance["plan_id"] == SLOW:
                return {"operation": state.begin(document, guid)}, 202
            return {"id": backup["id"], "created_at": backup["created_at"]}, 201

    @api.post("/service_instances/<guid>/restore")
    def restore(guid: str) -> Answer:
        body = request.get_json()
        with state.open() as document:
            instance = document["instances"].get(guid)
            if instance is None:
                return problem(404, "There is no such instance")
            source = body.get("source_service_instance_id") or guid
            backup = _chosen(document["backups"].get(source, []), body)
            if backup is None:
                return problem(422, "There is no such backup")
            instance["notes"] = dict(backup["notes"])
            if instance["plan_id"] == SLOW:
                return {"operation": state.begin(document, guid)}, 202
            return {}, 200

    @api.get("/service_instances/<guid>/osm_last_operation")
    def last_operation(guid: str) -> Answer:
        with state.open() as document:
            return poll(state, document, request.args.get("operation", ""))


def _chosen(backups: list[dict[str, Any]], body: dict[str, Any]) -> dict[str, Any] | None:
    """The backup that is asked for: by its id, or the last one before a moment."""
    if body.get("backup_id"):
        return next((one for one in backups if one["id"] == body["backup_id"]), None)
    moment = datetime.datetime.fromisoformat(body["target_timestamp"]).timestamp()
    return next((one for one in reversed(backups) if one["created_at"] <= moment), None)


def _definitions(api: Blueprint, state: State) -> None:
    @api.get("/services/<service>/plan_definition_schema")
    def show_schema(service: str) -> Answer:
        if service != SERVICE_ID:
            return problem(404, "There is no such service")
        return {"json_schema": SCHEMA, "ui_schema": UI_SCHEMA, "version": "1"}, 200

    @api.get("/services/<service>/plan_definitions")
    def list_definitions(service: str) -> Answer:
        with state.open() as document:
            return {"plan_definitions": list(document["definitions"].values())}, 200

    @api.post("/services/<service>/plan_definitions")
    def create(service: str) -> Answer:
        body = request.get_json()
        with state.open() as document:
            plan_id = body.get("plan_id") or f"jotter-{secrets.token_hex(6)}"
            if plan_id in document["definitions"] or plan_id in LIMITS:
                return problem(409, f"There is a plan {plan_id} already")
            wrong = _wrong(body)
            if wrong is not None:
                return wrong
            now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            document["definitions"][plan_id] = _definition(plan_id, body, now, "1")
            return document["definitions"][plan_id], 201

    @api.get("/services/<service>/plan_definitions/<plan_id>")
    def show(service: str, plan_id: str) -> Answer:
        with state.open() as document:
            found = document["definitions"].get(plan_id)
            return (found, 200) if found else problem(404, "This plan was not defined")

    @api.put("/services/<service>/plan_definitions/<plan_id>")
    def replace(service: str, plan_id: str) -> Answer:
        body = request.get_json()
        with state.open() as document:
            found = document["definitions"].get(plan_id)
            if found is None:
                return problem(404, "This plan was not defined")
            wrong = _wrong(body)
            if wrong is not None:
                return wrong
            version = str(int(found["resource_version"]) + 1)
            document["definitions"][plan_id] = _definition(plan_id, body, found["created_at"], version)
            return document["definitions"][plan_id], 200

    @api.delete("/services/<service>/plan_definitions/<plan_id>")
    def delete(service: str, plan_id: str) -> Answer:
        with state.open() as document:
            if any(instance["plan_id"] == plan_id for instance in document["instances"].values()):
                return problem(409, "This plan has instances")
            if document["definitions"].pop(plan_id, None) is None:
                return problem(404, "This plan was not defined")
            return {}, 200


def _wrong(body: dict[str, Any]) -> Answer | None:
    """The platform checks definitions against our schema, if it can; we do so anyway."""
    room = (body.get("properties") or {}).get("max_notes")
    if type(room) is not int or not 1 <= room <= 100_000:
        return problem(422, "max_notes must be a number from 1 to 100000")
    return None


def _definition(plan_id: str, body: dict[str, Any], created_at: str, version: str) -> dict[str, Any]:
    return {
        "plan_id": plan_id,
        "name": body["name"],
        "description": body["description"],
        "properties": body["properties"],
        "metadata": body.get("metadata") or {},
        "created_at": created_at,
        "resource_version": version,
    }
