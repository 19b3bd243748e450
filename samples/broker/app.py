"""The broker and its service in one app. `BROKER_USERNAME` and `BROKER_PASSWORD` are what the platform logs in with."""

import hmac
import os
import sys
from pathlib import Path

import notes
import osbapi
import osmapi
from flask import Flask, request
from state import State


def create_app() -> Flask:
    """The app, configured by its environment."""
    username, password = os.environ.get("BROKER_USERNAME"), os.environ.get("BROKER_PASSWORD")
    if not username or not password:
        sys.exit("Set BROKER_USERNAME and BROKER_PASSWORD: the platform logs in with them.")
    file = os.environ.get("STATE_FILE")
    slow = float(os.environ.get("SLOW_SECONDS", "2"))
    state = State(Path(file) if file else None, slow_seconds=slow)
    app = Flask(__name__)

    @app.before_request
    def only_the_platform() -> tuple[dict[str, str], int] | None:
        if not request.path.startswith(("/v2/", "/osmapi/")):
            return None
        given = request.authorization
        good = given is not None and given.username == username
        if good and hmac.compare_digest(given.password or "", password):
            return None
        return {"description": "Wrong username or password"}, 401

    @app.get("/")
    def index() -> dict[str, str]:
        return {"service": "jotter", "catalog": "/v2/catalog"}

    for part in (osbapi, osmapi, notes):
        app.register_blueprint(part.blueprint(state))
    return app
