"""Buildpacks: kept in order, unique by name, stack and lifecycle, filled by an upload."""

import json
import re
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO

import yaml
from sqlalchemy import Row, func, select, update

from cupola import errors
from cupola.domain import audit
from cupola.domain.buildpack_names import find_stack
from cupola.errors import CloudError
from cupola.roles import Actor
from cupola.store import rows
from cupola.store.database import Tx
from cupola.store.platform import buildpacks

__all__ = ["change", "create", "delete", "form_problem", "stack_in_zip", "store_bits"]

_NAME = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def create(tx: Tx, actor: Actor, body: Mapping[str, Any]) -> Row[Any]:
    """Add a buildpack at its position, without bits. Raises 422."""
    lifecycle = body.get("lifecycle") or "buildpack"
    stack = body.get("stack")
    if stack is not None and find_stack(tx, stack) is None:
        raise errors.unprocessable(f"Stack '{stack}' does not exist")
    _require_free(tx, body["name"], stack, lifecycle, None)
    count = tx.scalar(select(func.count()).select_from(buildpacks).where(buildpacks.c.lifecycle == lifecycle))
    position = min(body.get("position") or 1, count + 1)
    _shift(tx, lifecycle, position, 1)
    values = {
        "name": body["name"],
        "stack": stack,
        "lifecycle": lifecycle,
        "position": position,
        "enabled": body.get("enabled", True) is not False,
        "locked": bool(body.get("locked")),
        "filename": body.get("filename"),
        "state": "AWAITING_UPLOAD",
    }
    row = rows.add(tx, buildpacks, values, body.get("metadata"))
    audit.record(tx, "audit.buildpack.create", actor, row.guid, "buildpack", row.name, {"request": dict(body)})
    return row


def name_problems(name: str) -> list[str]:
    """What is wrong with a name."""
    return [] if _NAME.fullmatch(name) else ["can only contain alphanumeric characters, underscores, and hyphens"]


def _taken(tx: Tx, name: str, stack: str | None, lifecycle: str, but: str | None) -> bool:
    same_stack = buildpacks.c.stack.is_(None) if stack is None else buildpacks.c.stack == stack
    found = select(buildpacks.c.guid).where(
        buildpacks.c.name == name, buildpacks.c.lifecycle == lifecycle, same_stack, buildpacks.c.guid != (but or "")
    )
    return tx.scalar(found) is not None


def _require_free(tx: Tx, name: str, stack: str | None, lifecycle: str, but: str | None) -> None:
    if not _taken(tx, name, stack, lifecycle, but):
        return
    if stack is None:
        raise errors.unprocessable(f"Buildpack with name '{name}' and an unassigned stack already exists")
    raise errors.unprocessable(
        f"Buildpack with name '{name}', stack '{stack}' and lifecycle '{lifecycle}' already exists"
    )


def _shift(tx: Tx, lifecycle: str, first: int, by: int) -> None:
    tx.run(
        update(buildpacks)
        .where(buildpacks.c.lifecycle == lifecycle, buildpacks.c.position >= first)
        .values(position=buildpacks.c.position + by)
    )


def change(tx: Tx, actor: Actor, row: Row[Any], body: Mapping[str, Any]) -> Row[Any]:
    """Rename, move, enable, lock, relabel. Raises 422."""
    kept = ("enabled", "locked", "filename")
    values: dict[str, Any] = {name: body[name] for name in kept if body.get(name) is not None}
    name, stack = body.get("name") or row.name, row.stack
    if body.get("stack") is not None and body["stack"] != row.stack:
        if row.stack is not None:
            raise errors.unprocessable("Buildpack stack can not be changed")
        if find_stack(tx, body["stack"]) is None:
            raise errors.unprocessable(f"Stack '{body['stack']}' does not exist")
        stack = body["stack"]
    if (name, stack) != (row.name, row.stack):
        _require_free(tx, name, stack, row.lifecycle, row.guid)
        values |= {"name": name, "stack": stack}
    if body.get("position") is not None and body["position"] != row.position:
        values["position"] = _moved(tx, row, body["position"])
    changed = rows.change(tx, buildpacks, row, values, body.get("metadata"))
    audit.record(tx, "audit.buildpack.update", actor, row.guid, "buildpack", changed.name, {"request": dict(body)})
    return changed


def _moved(tx: Tx, row: Row[Any], wanted: int) -> int:
    count = tx.scalar(select(func.count()).select_from(buildpacks).where(buildpacks.c.lifecycle == row.lifecycle))
    position = min(wanted, int(count))
    _shift(tx, row.lifecycle, row.position + 1, -1)
    _shift(tx, row.lifecycle, position, 1)
    return position


def delete(tx: Tx, actor: Actor, row: Row[Any]) -> None:
    """Remove a buildpack; those after it move up."""
    rows.remove(tx, buildpacks, [row.guid])
    _shift(tx, row.lifecycle, row.position + 1, -1)
    audit.record(tx, "audit.buildpack.delete", actor, row.guid, "buildpack", row.name, {})


def form_problem(head: bytes, lifecycle: str) -> str:
    """What is wrong with an upload that begins so (512 bytes suffice), as the end of a sentence; "" when nothing is."""
    if lifecycle == "buildpack":
        fits = head.startswith(b"PK\3\4")
        form, plural = "a zip file", "zip files"
    else:
        fits = head.startswith(b"\x1f\x8b") or head[257:262] == b"ustar"
        form, plural = "a gzip archive or cnb file", "gzip archives or cnb files"
    return "" if fits else f'is not {form}. Buildpacks of lifecycle "{lifecycle}" must be valid {plural}.'


def stack_in_zip(bits: BinaryIO) -> str | None:
    """The stack that a buildpack's manifest.yml names, or None. Raises 422 when it is no zip."""
    try:
        with zipfile.ZipFile(bits) as archive:
            names = set(archive.namelist())
            for name in ("manifest.yml", "manifest.json"):
                if name in names and archive.getinfo(name).file_size < 4 * 1024 * 1024:
                    text = archive.read(name).decode("utf-8", "replace")
                    manifest = json.loads(text) if name.endswith("json") else yaml.safe_load(text)
                    stack = manifest.get("stack") if isinstance(manifest, dict) else None
                    return stack if isinstance(stack, str) else None
    except (zipfile.BadZipFile, OSError, yaml.YAMLError, ValueError) as error:
        raise CloudError(390013, "CF-BuildpackZipError", 422, f"Buildpack zip error: {error}") from error
    return None


def store_bits(tx: Tx, actor: Actor, guid: str, digest: str, filename: str, stack: str | None) -> Row[Any]:
    """Take an upload as the buildpack's bits. Raises 422 when it is locked or was made for another
    stack, with the codes that clients of the upload's job know."""
    row = rows.by_guid(tx, buildpacks, guid)
    if row is None:
        raise errors.not_found("Buildpack")
    if row.locked:
        raise errors.unprocessable("Buildpack is locked")
    values = {"digest": digest, "filename": filename, "state": "READY"}
    if stack is not None and stack != "*":
        if row.stack is not None and row.stack != stack:
            text = f"Uploaded buildpack stack ({stack}) does not match {row.stack}. Upload one that was made for {row.stack}."
            raise CloudError(390011, "CF-BuildpackStacksDontMatch", 422, text)
        if row.stack is None:
            if find_stack(tx, stack) is None:
                text = f"Uploaded buildpack stack ({stack}) does not exist"
                raise CloudError(390012, "CF-BuildpackStackDoesNotExist", 422, text)
            if _taken(tx, row.name, stack, row.lifecycle, row.guid):
                text = f"The buildpack name {row.name} is already in use for the stack {stack} and the lifecycle {row.lifecycle}"
                raise CloudError(290000, "CF-BuildpackNameStackLifecycleTaken", 422, text)
            values["stack"] = stack
    changed = rows.change(tx, buildpacks, row, values)
    audit.record(tx, "audit.buildpack.upload", actor, row.guid, "buildpack", row.name, {"filename": filename})
    return changed
