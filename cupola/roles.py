"""Who is calling: the actor of a request, and the names of roles and scopes (contract: roles.json)."""

from dataclasses import dataclass

__all__ = ["ORGANIZATION_ROLES", "READ_SCOPES", "SPACE_ROLES", "WRITE_SCOPES", "Actor", "system_actor"]

ORGANIZATION_ROLES = (
    "organization_auditor",
    "organization_manager",
    "organization_billing_manager",
    "organization_user",
)
SPACE_ROLES = ("space_auditor", "space_manager", "space_developer", "space_supporter")
"""Both in the order in which messages list them."""

ADMIN = "cloud_controller.admin"
ADMIN_READ_ONLY = "cloud_controller.admin_read_only"
GLOBAL_AUDITOR = "cloud_controller.global_auditor"
SERVICE_ADMIN = "cloud_controller.service_admin"
READ = "cloud_controller.read"
WRITE = "cloud_controller.write"

READ_SCOPES = frozenset({ADMIN, ADMIN_READ_ONLY, GLOBAL_AUDITOR, READ})
WRITE_SCOPES = frozenset({ADMIN, WRITE})


@dataclass(frozen=True, slots=True)
class Actor:
    """The user or client behind a request. `guid` is the user's id, or the client's id for a client token."""

    guid: str
    name: str
    scopes: frozenset[str]
    is_client: bool = False
    email: str = ""
    origin: str = "uaa"
    type: str = "user"
    """Actor type of audit events: user, process, service_broker or system."""

    @property
    def is_admin(self) -> bool:
        """Reads and writes everything."""
        return ADMIN in self.scopes

    @property
    def is_service_admin(self) -> bool:
        """Defines plans of all offerings; admins do so, too."""
        return self.is_admin or SERVICE_ADMIN in self.scopes

    @property
    def reads_everything(self) -> bool:
        """admin, admin_read_only or global_auditor."""
        return not self.scopes.isdisjoint((ADMIN, ADMIN_READ_ONLY, GLOBAL_AUDITOR))

    @property
    def reads_secrets(self) -> bool:
        """admin or admin_read_only."""
        return not self.scopes.isdisjoint((ADMIN, ADMIN_READ_ONLY))


def system_actor(name: str = "system") -> Actor:
    """The platform itself, for loops and jobs."""
    return Actor(guid="system", name=name, scopes=frozenset({ADMIN, READ, WRITE}), is_client=True, type="system")
