"""Notes that outlive the app: they lie in the PostgreSQL database that it is bound to."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from flask import Flask, abort, redirect, render_template, request, url_for

app = Flask(__name__)
TABLE = (
    "CREATE TABLE IF NOT EXISTS notes (id serial PRIMARY KEY, text text NOT NULL, written timestamptz DEFAULT now())"
)


@contextmanager
def database() -> Iterator[psycopg.Connection]:
    # The address of the first database among the services that the app is bound to.
    address = os.environ.get("DATABASE_URL")
    if not address:
        abort(503, "No database is bound yet: cf bind-service, then cf restart (README.md)")
    with psycopg.connect(address, connect_timeout=5) as connection:
        connection.execute(TABLE)
        yield connection


@app.get("/")
def index() -> str:
    with database() as connection:
        notes = connection.execute("SELECT text, written FROM notes ORDER BY id DESC LIMIT 100").fetchall()
    return render_template("index.html", notes=notes)


@app.post("/notes")
def add():
    text = request.form.get("text", "").strip()[:200]
    if text:
        with database() as connection:
            connection.execute("INSERT INTO notes (text) VALUES (%s)", (text,))
    return redirect(url_for("index"))


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok", "instance": os.environ.get("CF_INSTANCE_INDEX", "0")}


@app.errorhandler(psycopg.OperationalError)
def not_reached(error: psycopg.OperationalError) -> tuple[str, int]:
    print(f"the database does not answer: {error}", flush=True)
    return "The database does not answer", 503
