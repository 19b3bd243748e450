"""Which buildpacks and stacks an app, a build or a manifest may name (reference/behaviours.md sections 9 and 17)."""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from sqlalchemy import Row, or_, select

from cupola.errors import CloudError
from cupola.store.database import Tx
from cupola.store.platform import buildpacks, stacks

__all__ = ["find_stack", "is_custom", "problems", "redacted", "stack_warning"]

_SCP = re.compile(r"[\w.-]+@[\w.-]+:[^\s]+", re.ASCII)


def is_custom(name: str) -> bool:
    """Whether a buildpack is named by an address rather than by the name of an admin buildpack."""
    return urlsplit(name).scheme in {"http", "https", "git", "ssh"} or _SCP.fullmatch(name) is not None


def redacted(name: str) -> str:
    """A buildpack address without the credentials in it: `https://***:***@host/path`."""
    parts = urlsplit(name)
    if parts.scheme and "@" in parts.netloc:
        return urlunsplit(parts._replace(netloc="***:***@" + parts.netloc.rpartition("@")[2]))
    return name


def problems(
    tx: Tx, names: Sequence[str], stack: str | None, lifecycle: str = "buildpack", *, custom_allowed: bool = True
) -> list[str]:
    """What is wrong with a list of buildpacks. Raises 400 290004 when custom ones are switched off."""
    found: list[str] = []
    for name in names:
        if is_custom(name) or (lifecycle == "cnb" and "/" in name):
            if not custom_allowed:
                raise CloudError(290004, "CF-CustomBuildpacksDisabled", 400, "Custom buildpacks are disabled")
            continue
        statement = select(buildpacks.c.guid).where(buildpacks.c.name == name, buildpacks.c.lifecycle == lifecycle)
        if tx.scalar(statement) is None:
            found.append(f'Buildpack "{name}" must be an existing admin buildpack or a valid git URI')
        elif stack is not None:
            fits = statement.where(or_(buildpacks.c.stack == stack, buildpacks.c.stack.is_(None)))
            if tx.scalar(fits) is None:
                found.append(
                    f'Buildpack "{name}" for stack "{stack}" must be an existing admin buildpack or a valid git URI'
                )
    return found


def find_stack(tx: Tx, name: str) -> Row[Any] | None:
    """The stack with this name."""
    return tx.one(select(stacks).where(stacks.c.name == name))


def stack_warning(stack: Row[Any], *, first: bool) -> tuple[str | None, str | None]:
    """(error, warning) for using a stack; `first` for a new app or an app's first build (section 17)."""
    reason = f" {stack.state_reason}" if stack.state_reason else ""
    if stack.state == "DISABLED" or (stack.state == "RESTRICTED" and first):
        return (
            f"ERROR: Staging failed. The stack '{stack.name}' is '{stack.state}' and cannot be used for staging.{reason}",
            None,
        )
    if stack.state in {"RESTRICTED", "DEPRECATED"}:
        return None, f"WARNING: The stack '{stack.name}' is '{stack.state}' and will be removed in the future.{reason}"
    return None, None
