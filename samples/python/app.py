"""A guest book: entries live in memory, so each instance has its own."""

import json
import os

from flask import Flask, redirect, render_template, request, url_for

app = Flask(__name__)
entries: list[str] = []


@app.get("/")
def index() -> str:
    application = json.loads(os.environ.get("VCAP_APPLICATION", "{}"))
    return render_template("index.html", entries=entries, name=application.get("name", "guest book"))


@app.post("/entries")
def add():
    text = request.form.get("text", "").strip()[:200]
    if text:
        entries.append(text)
        print(f"new entry of {len(text)} characters", flush=True)
    return redirect(url_for("index"))


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok", "instance": os.environ.get("CF_INSTANCE_INDEX", "0")}
