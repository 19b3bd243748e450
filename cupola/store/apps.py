"""Apps, their processes, sidecars and revisions."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table, Text, UniqueConstraint

from cupola.store.schema import Json, guid_ref, metadata, metadata_columns, resource_columns

__all__ = ["apps", "buildpack_caches", "processes", "revisions", "sidecars"]

apps = Table(
    "apps",
    metadata,
    *resource_columns(),
    Column("name", String(255), nullable=False),
    Column("name_key", String(255), nullable=False, index=True),
    guid_ref("space_guid", "spaces"),
    Column("state", String(16), nullable=False, default="STOPPED"),
    Column("lifecycle_type", String(16), nullable=False, default="buildpack"),
    Column("stack", String(255)),
    Column("buildpacks", Text),
    Column("cnb_credentials", Text),
    Column("environment", Text),
    # No foreign key: a droplet refers to its app, and two tables that refer to each other cannot be made in order.
    Column("droplet_guid", String(255), index=True),
    Column("ssh_enabled", Boolean, nullable=False, default=True),
    Column("revisions_enabled", Boolean, nullable=False, default=True),
    Column("service_binding_k8s", Boolean, nullable=False, default=False),
    Column("file_based_vcap_services", Boolean, nullable=False, default=False),
    *metadata_columns(),
    UniqueConstraint("space_guid", "name_key"),
    Index("ix_apps_created_guid", "created_at", "guid"),
)
"""`environment`, `buildpacks` (a list; URLs may hold credentials) and `cnb_credentials` are sealed JSON or NULL."""

processes = Table(
    "processes",
    metadata,
    *resource_columns(),
    guid_ref("app_guid", "apps"),
    Column("type", String(255), nullable=False),
    Column("command", Text),
    Column("user", String(64)),
    Column("state", String(16), nullable=False, default="STOPPED"),
    Column("version", String(64), nullable=False),
    Column("instances", Integer, nullable=False),
    Column("memory_mb", BigInteger, nullable=False),
    Column("disk_mb", BigInteger, nullable=False),
    Column("log_rate", BigInteger, nullable=False),
    Column("health_check_type", String(16), nullable=False),
    Column("health_check_endpoint", Text),
    Column("health_check_timeout", Integer),
    Column("health_check_invocation_timeout", Integer),
    Column("health_check_interval", Integer),
    Column("readiness_type", String(16), nullable=False, default="process"),
    Column("readiness_endpoint", Text),
    Column("readiness_invocation_timeout", Integer),
    Column("readiness_interval", Integer),
    Column("revision_guid", String(255)),
    Column("droplet_guid", String(255)),
    *metadata_columns(),
    Index("ix_processes_app_type", "app_guid", "type"),
    Index("ix_processes_state", "state"),
)
"""`version` changes at each start and restart: instances of another version are replaced. `droplet_guid`, set by the
same, is what they run: a crash must not deploy what was assigned to the app since."""

sidecars = Table(
    "sidecars",
    metadata,
    *resource_columns(),
    guid_ref("app_guid", "apps"),
    Column("name", String(255), nullable=False),
    Column("command", String(4096), nullable=False),
    Column("memory_mb", BigInteger),
    Column("origin", String(16), nullable=False, default="user"),
    Column("process_types", Json, nullable=False),
    UniqueConstraint("app_guid", "name"),
)

revisions = Table(
    "revisions",
    metadata,
    *resource_columns(),
    guid_ref("app_guid", "apps", index=False),
    Column("version", Integer, nullable=False),
    Column("droplet_guid", String(255), index=True),
    Column("environment", Text),
    Column("description", Text, nullable=False),
    Column("enabled", Boolean, nullable=False, default=True),
    Column("processes", Json, nullable=False),
    Column("sidecars", Json, nullable=False),
    *metadata_columns(),
    Index("ix_revisions_app_version", "app_guid", "version"),
)
"""`processes`: {type: command or null}; `sidecars`: [{name, command, memory_in_mb, process_types}];
`environment` sealed."""

buildpack_caches = Table(
    "buildpack_caches",
    metadata,
    Column("app_guid", String(255), primary_key=True),
    Column("stack", String(255), primary_key=True),
    Column("digest", String(80), nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
