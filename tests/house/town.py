"""A platform with one of everything, and everybody who may come: what the whole-house tests look at.

Things have names (`app`, `space`, `private_domain`); a recipe module says how its things are made (`MAKERS`) and how
each operation is called on them (`RECIPES`). Modules in tests/house/recipes are found by themselves.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from cupola.api.table import OPERATIONS
from cupola.rest.operation import Operation
from tests.cloud import Client, Cloud
from tests.house import recipes

__all__ = ["CALLERS", "Recipe", "Town", "all_makers", "all_recipes", "key_of"]


@dataclass(frozen=True)
class Recipe:
    """How to call one operation so that an admin succeeds.

    `$name` in a path value, the query or the body stands for the guid of that thing; everything else is as it is.
    """

    guid: str = ""
    """The thing that `{guid}` names."""
    body: Any = None
    query: str = ""
    path: Mapping[str, str] = field(default_factory=dict)
    """Values of other path parameters."""
    sees: str = ""
    """For lists: the thing that counts as seen; default, anything."""
    content: bytes | None = None
    """A body that is not JSON."""
    headers: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Any] | None = None
    """Parts of a multipart upload."""
    first: Callable[["Town"], Any] | None = None
    """What an admin does before the call, where the town is not already as the operation needs it."""

    def leaves_traces(self, operation: Operation) -> bool:
        """Whether the town is to be restored after a call that succeeded."""
        return operation.opens_write or operation.stream is not None


CALLERS = (
    "no_token",
    "no_role",
    "org_user",
    "org_auditor",
    "org_billing_manager",
    "org_manager",
    "space_auditor",
    "space_developer",
    "space_manager",
    "space_supporter",
    "admin",
    "admin_read_only",
    "global_auditor",
)
"""As the contract's roles, with `organization_` shortened. Who has a role in the space is an org user as well, and has
the same role in `other_space`."""


class Town:
    """The platform, its things by name, its callers by name."""

    def __init__(self, cloud: Cloud, restore: Callable[[], None], directory: Path) -> None:
        self.cloud = cloud
        self.directory = directory
        self.restore = restore
        """Brings back the database as it was when everything was just made."""
        self.callers: dict[str, Client] = {}
        self.beside = ExitStack()
        """What runs beside the platform, such as a broker, until the town is no more."""
        self._things: dict[str, str] = {}
        self._makers = all_makers()

    def __getitem__(self, name: str) -> str:
        """The guid of a thing; made on the first use."""
        if name not in self._things:
            if name not in self._makers:
                raise LookupError(f"no recipe module says how to make a {name!r}: add it to its MAKERS")
            self._things[name] = self._makers[name](self)
        return self._things[name]

    def make_everything(self) -> None:
        """Make all things and callers."""
        for name in self._makers:
            self[name]
        self.callers = {name: self._caller(name) for name in CALLERS}

    def _caller(self, name: str) -> Client:
        cloud = self.cloud
        match name:
            case "no_token":
                return cloud.nobody
            case "admin":
                return cloud.admin
            case "admin_read_only" | "global_auditor":
                return cloud.client(f"cloud_controller.{name}", name=name)
            case "no_role":
                return cloud.user()
        if name.startswith("org_"):
            return cloud.user(**{name.replace("org_", "organization_"): self["organization"]})
        user = cloud.user(organization_user=self["organization"], **{name: self["space"]})
        assert user.actor is not None
        links = {"user": {"data": {"guid": user.actor.guid}}, "space": {"data": {"guid": self["other_space"]}}}
        cloud.admin.ok("POST", "/v3/roles", {"type": name, "relationships": links}, 201)
        return user

    def filled(self, value: Any) -> Any:
        """`value` with guids for the names in it."""
        if isinstance(value, str):
            if value.startswith("$"):
                return self[value[1:]]
            return value
        if isinstance(value, Mapping):
            return {key: self.filled(one) for key, one in value.items()}
        return [self.filled(one) for one in value] if isinstance(value, list) else value

    def path(self, operation: Operation, recipe: Recipe) -> str:
        """The path and query to call."""
        path = operation.path
        for name, value in {**({"guid": "$" + recipe.guid} if recipe.guid else {}), **recipe.path}.items():
            path = path.replace(f"{{{name}}}", self.filled(value))
        assert "{" not in path, f"the recipe of {key_of(operation)} leaves a parameter of its path open: {path}"
        query = "&".join(
            f"{name}={self.filled(value)}"
            for name, _, value in (part.partition("=") for part in recipe.query.split("&"))
        )
        return path + (f"?{query}" if recipe.query else "")

    def call(self, caller: str, operation: Operation, recipe: Recipe) -> Any:
        """The answer to the recipe's request. The caller restores the town."""
        if recipe.first is not None:
            recipe.first(self)
        more: dict[str, Any] = {"headers": dict(recipe.headers)}
        if recipe.files is not None:
            more["files"] = dict(recipe.files)
        elif recipe.content is not None:
            more["content"] = recipe.content
        elif recipe.body is not None:
            more["content"] = msgspec.json.encode(self.filled(recipe.body))
            more["headers"].setdefault("Content-Type", "application/json")
        return self.callers[caller].request(operation.method, self.path(operation, recipe), **more)


def key_of(operation: Operation) -> str:
    """`GET /v3/apps/{guid}`: how recipes and tables call an operation."""
    return f"{operation.method} {operation.path}"


def _modules() -> list[Any]:
    names = sorted(module.name for module in pkgutil.iter_modules(recipes.__path__))
    return [importlib.import_module(f"tests.house.recipes.{name}") for name in names]


def all_makers() -> dict[str, Callable[[Town], str]]:
    """Thing to how it is made."""
    return _joined("MAKERS")


def all_recipes() -> dict[str, Recipe]:
    """Operation to how it is called; an extra one for another form of the same operation ends in `?query`."""
    return _joined("RECIPES")


def _joined(attribute: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for module in _modules():
        for key, value in getattr(module, attribute, {}).items():
            assert key not in found, f"{attribute} of {module.__name__}: {key} is there twice"
            found[key] = value
    return found


def operation_of(key: str) -> Operation:
    """The operation that a recipe's key names."""
    wanted = key.partition("?")[0]
    return next(operation for operation in OPERATIONS if key_of(operation) == wanted)
