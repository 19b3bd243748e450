"""The tables of the first version.

Written by scripts/migration.py.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001_initial"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "app_usage_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("previous_state", sa.String(length=32), nullable=True),
        sa.Column("app_guid", sa.String(length=255), nullable=False),
        sa.Column("app_name", sa.String(length=255), nullable=False),
        sa.Column("process_guid", sa.String(length=255), nullable=True),
        sa.Column("process_type", sa.String(length=255), nullable=True),
        sa.Column("space_guid", sa.String(length=255), nullable=False),
        sa.Column("space_name", sa.String(length=255), nullable=False),
        sa.Column("organization_guid", sa.String(length=255), nullable=False),
        sa.Column("buildpack_guid", sa.String(length=255), nullable=True),
        sa.Column("buildpack_name", sa.String(length=4096), nullable=True),
        sa.Column("task_guid", sa.String(length=255), nullable=True),
        sa.Column("task_name", sa.String(length=255), nullable=True),
        sa.Column("memory_mb", sa.BigInteger(), nullable=True),
        sa.Column("previous_memory_mb", sa.BigInteger(), nullable=True),
        sa.Column("instances", sa.Integer(), nullable=True),
        sa.Column("previous_instances", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_app_usage_events")),
        sa.UniqueConstraint("guid", name=op.f("uq_app_usage_events_guid")),
    )
    op.create_index(op.f("ix_app_usage_events_created_at"), "app_usage_events", ["created_at"], unique=False)
    op.create_index(op.f("ix_app_usage_events_task_guid"), "app_usage_events", ["task_guid"], unique=False)
    op.create_table(
        "approvals",
        sa.Column("user_guid", sa.String(length=255), nullable=False),
        sa.Column("client_id", sa.String(length=255), nullable=False),
        sa.Column("scope", sa.String(length=255), nullable=False),
        sa.Column("approved", sa.Boolean(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_guid", "client_id", "scope", name=op.f("pk_approvals")),
    )
    op.create_index(op.f("ix_approvals_client_id"), "approvals", ["client_id"], unique=False)
    op.create_table(
        "audit_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.String(length=255), nullable=False),
        sa.Column("actor_guid", sa.String(length=255), nullable=False),
        sa.Column("actor_type", sa.String(length=32), nullable=False),
        sa.Column("actor_name", sa.String(length=255), nullable=True),
        sa.Column("target_guid", sa.String(length=255), nullable=False),
        sa.Column("target_type", sa.String(length=64), nullable=False),
        sa.Column("target_name", sa.String(length=255), nullable=True),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("space_guid", sa.String(length=255), nullable=True),
        sa.Column("organization_guid", sa.String(length=255), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_events")),
        sa.UniqueConstraint("guid", name=op.f("uq_audit_events_guid")),
    )
    op.create_index(op.f("ix_audit_events_created_at"), "audit_events", ["created_at"], unique=False)
    op.create_index(
        "ix_audit_events_org", "audit_events", ["organization_guid", "type", "created_at", "guid", "id"], unique=False
    )
    op.create_index(
        "ix_audit_events_space", "audit_events", ["space_guid", "type", "created_at", "guid", "id"], unique=False
    )
    op.create_index(op.f("ix_audit_events_target_guid"), "audit_events", ["target_guid"], unique=False)
    op.create_index("ix_audit_events_type", "audit_events", ["type", "created_at", "guid", "id"], unique=False)
    op.create_table(
        "buildpack_caches",
        sa.Column("app_guid", sa.String(length=255), nullable=False),
        sa.Column("stack", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("app_guid", "stack", name=op.f("pk_buildpack_caches")),
    )
    op.create_table(
        "buildpacks",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("stack", sa.String(length=250), nullable=True),
        sa.Column("lifecycle", sa.String(length=16), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("locked", sa.Boolean(), nullable=False),
        sa.Column("filename", sa.String(length=255), nullable=True),
        sa.Column("digest", sa.String(length=80), nullable=True),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.Text(), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_buildpacks")),
        sa.UniqueConstraint("guid", name=op.f("uq_buildpacks_guid")),
    )
    op.create_index(op.f("ix_buildpacks_created_at"), "buildpacks", ["created_at"], unique=False)
    op.create_index("ix_buildpacks_order", "buildpacks", ["lifecycle", "position"], unique=False)
    op.create_index(op.f("ix_buildpacks_updated_at"), "buildpacks", ["updated_at"], unique=False)
    op.create_table(
        "cells",
        sa.Column("cell_id", sa.String(length=64), nullable=False),
        sa.Column("last_event", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("cell_id", name=op.f("pk_cells")),
    )
    op.create_table(
        "environment_variable_groups",
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.Column("variables", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_environment_variable_groups")),
    )
    op.create_table(
        "external_groups",
        sa.Column("group_guid", sa.String(length=255), nullable=False),
        sa.Column("external_group", sa.String(length=255), nullable=False),
        sa.Column("origin", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("group_guid", "external_group", "origin", name=op.f("pk_external_groups")),
    )
    op.create_table(
        "feature_flags",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("custom_error_message", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_feature_flags")),
    )
    op.create_table(
        "group_members",
        sa.Column("group_guid", sa.String(length=255), nullable=False),
        sa.Column("member_guid", sa.String(length=255), nullable=False),
        sa.Column("member_type", sa.String(length=8), nullable=False),
        sa.Column("origin", sa.String(length=255), nullable=False),
        sa.Column("by_provider", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("group_guid", "member_guid", name=op.f("pk_group_members")),
    )
    op.create_index(op.f("ix_group_members_member_guid"), "group_members", ["member_guid"], unique=False)
    op.create_table(
        "identities",
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("username", sa.String(length=255), nullable=False),
        sa.Column("username_key", sa.String(length=255), nullable=False),
        sa.Column("origin", sa.String(length=255), nullable=False),
        sa.Column("external_id", sa.String(length=255), nullable=True),
        sa.Column("email", sa.String(length=255), nullable=False),
        sa.Column("phone_number", sa.String(length=255), nullable=True),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("given_name", sa.String(length=255), nullable=False),
        sa.Column("family_name", sa.String(length=255), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.Column("password_changed_at", sa.BigInteger(), nullable=False),
        sa.Column("password_change_required", sa.Boolean(), nullable=False),
        sa.Column("last_login_at", sa.BigInteger(), nullable=True),
        sa.Column("previous_login_at", sa.BigInteger(), nullable=True),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("guid", name=op.f("pk_identities")),
        sa.UniqueConstraint("username_key", "origin", name=op.f("uq_identities_username_key_origin")),
    )
    op.create_index(op.f("ix_identities_external_id"), "identities", ["external_id"], unique=False)
    op.create_table(
        "identity_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("user_guid", sa.String(length=255), nullable=True),
        sa.Column("username", sa.String(length=255), nullable=True),
        sa.Column("client_id", sa.String(length=255), nullable=True),
        sa.Column("origin", sa.String(length=255), nullable=True),
        sa.Column("address", sa.String(length=64), nullable=True),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity_events")),
    )
    op.create_index(op.f("ix_identity_events_created_at"), "identity_events", ["created_at"], unique=False)
    op.create_index(op.f("ix_identity_events_user_guid"), "identity_events", ["user_guid"], unique=False)
    op.create_table(
        "identity_groups",
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("name_key", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("guid", name=op.f("pk_identity_groups")),
        sa.UniqueConstraint("name_key", name=op.f("uq_identity_groups_name_key")),
    )
    op.create_table(
        "instances",
        sa.Column("process_guid", sa.String(length=255), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("instance_guid", sa.String(length=64), nullable=False),
        sa.Column("cell_id", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("routable", sa.Boolean(), nullable=False),
        sa.Column("endpoints", sa.Text(), nullable=False),
        sa.Column("host", sa.String(length=64), nullable=False),
        sa.Column("internal_ip", sa.String(length=64), nullable=False),
        sa.Column("ports", sa.Text(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("crash_count", sa.Integer(), nullable=False),
        sa.Column("terminate", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("process_guid", "index", "version", name=op.f("pk_instances")),
    )
    op.create_index(op.f("ix_instances_cell_id"), "instances", ["cell_id"], unique=False)
    op.create_index("ix_instances_guid", "instances", ["instance_guid"], unique=False)
    op.create_table(
        "isolation_segments",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("name_key", sa.String(length=255), nullable=False),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.Text(), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_isolation_segments")),
        sa.UniqueConstraint("guid", name=op.f("uq_isolation_segments_guid")),
        sa.UniqueConstraint("name_key", name=op.f("uq_isolation_segments_name_key")),
    )
    op.create_index(op.f("ix_isolation_segments_created_at"), "isolation_segments", ["created_at"], unique=False)
    op.create_index(op.f("ix_isolation_segments_updated_at"), "isolation_segments", ["updated_at"], unique=False)
    op.create_table(
        "jobs",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("operation", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("lane", sa.String(length=16), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("run_at", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.String(length=64), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=False),
        sa.Column("dedup", sa.String(length=255), nullable=True),
        sa.Column("errors", sa.Text(), nullable=False),
        sa.Column("warnings", sa.Text(), nullable=False),
        sa.Column("resource_guid", sa.String(length=255), nullable=True),
        sa.Column("resource_type", sa.String(length=64), nullable=True),
        sa.Column("target", sa.String(length=255), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("dedup", name=op.f("uq_jobs_dedup")),
        sa.UniqueConstraint("guid", name=op.f("uq_jobs_guid")),
    )
    op.create_index(op.f("ix_jobs_created_at"), "jobs", ["created_at"], unique=False)
    op.create_index("ix_jobs_open", "jobs", ["state", "lane", "run_at"], unique=False)
    op.create_index(op.f("ix_jobs_resource_guid"), "jobs", ["resource_guid"], unique=False)
    op.create_index(op.f("ix_jobs_updated_at"), "jobs", ["updated_at"], unique=False)
    op.create_table(
        "label_index",
        sa.Column("resource_type", sa.String(length=64), nullable=False),
        sa.Column("resource_guid", sa.String(length=255), nullable=False),
        sa.Column("key", sa.String(length=320), nullable=False),
        sa.Column("value", sa.String(length=63), nullable=False),
        sa.PrimaryKeyConstraint("resource_type", "resource_guid", "key", name=op.f("pk_label_index")),
    )
    op.create_index(
        "ix_label_index_lookup", "label_index", ["resource_type", "key", "value", "resource_guid"], unique=False
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "login_failures",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_login_failures")),
    )
    op.create_index(op.f("ix_login_failures_failed_at"), "login_failures", ["failed_at"], unique=False)
    op.create_table(
        "login_sessions",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("user_guid", sa.String(length=255), nullable=False),
        sa.Column("auth_time", sa.BigInteger(), nullable=False),
        sa.Column("pending", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_login_sessions")),
    )
    op.create_index(op.f("ix_login_sessions_expires_at"), "login_sessions", ["expires_at"], unique=False)
    op.create_index(op.f("ix_login_sessions_user_guid"), "login_sessions", ["user_guid"], unique=False)
    op.create_table(
        "network_policies",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("source_guid", sa.String(length=255), nullable=False),
        sa.Column("destination_guid", sa.String(length=255), nullable=False),
        sa.Column("protocol", sa.String(length=8), nullable=False),
        sa.Column("first_port", sa.Integer(), nullable=False),
        sa.Column("last_port", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_network_policies")),
        sa.UniqueConstraint(
            "source_guid", "destination_guid", "protocol", "first_port", "last_port", name="uq_network_policies_all"
        ),
    )
    op.create_index(
        op.f("ix_network_policies_destination_guid"), "network_policies", ["destination_guid"], unique=False
    )
    op.create_table(
        "oauth_clients",
        sa.Column("client_id", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("secret_hashes", sa.Text(), nullable=False),
        sa.Column("jwks", sa.Text(), nullable=True),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("authorities", sa.Text(), nullable=False),
        sa.Column("grant_types", sa.Text(), nullable=False),
        sa.Column("resource_ids", sa.Text(), nullable=False),
        sa.Column("redirect_uris", sa.Text(), nullable=False),
        sa.Column("autoapprove", sa.Text(), nullable=False),
        sa.Column("allowed_providers", sa.Text(), nullable=True),
        sa.Column("required_user_groups", sa.Text(), nullable=False),
        sa.Column("allow_public", sa.Boolean(), nullable=False),
        sa.Column("access_token_seconds", sa.Integer(), nullable=True),
        sa.Column("refresh_token_seconds", sa.Integer(), nullable=True),
        sa.Column("show_on_home_page", sa.Boolean(), nullable=False),
        sa.Column("app_launch_url", sa.String(length=1024), nullable=True),
        sa.Column("app_icon", sa.Text(), nullable=True),
        sa.Column("extra", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("client_id", name=op.f("pk_oauth_clients")),
    )
    op.create_table(
        "one_time_codes",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("user_guid", sa.String(length=255), nullable=True),
        sa.Column("client_id", sa.String(length=255), nullable=True),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_one_time_codes")),
    )
    op.create_index(op.f("ix_one_time_codes_client_id"), "one_time_codes", ["client_id"], unique=False)
    op.create_index(op.f("ix_one_time_codes_expires_at"), "one_time_codes", ["expires_at"], unique=False)
    op.create_index(op.f("ix_one_time_codes_user_guid"), "one_time_codes", ["user_guid"], unique=False)
    op.create_table(
        "opaque_tokens",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("jti", sa.String(length=64), nullable=False),
        sa.Column("user_guid", sa.String(length=255), nullable=True),
        sa.Column("client_id", sa.String(length=255), nullable=False),
        sa.Column("claims", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_opaque_tokens")),
        sa.UniqueConstraint("jti", name=op.f("uq_opaque_tokens_jti")),
    )
    op.create_index(op.f("ix_opaque_tokens_client_id"), "opaque_tokens", ["client_id"], unique=False)
    op.create_index(op.f("ix_opaque_tokens_expires_at"), "opaque_tokens", ["expires_at"], unique=False)
    op.create_index(op.f("ix_opaque_tokens_user_guid"), "opaque_tokens", ["user_guid"], unique=False)
    op.create_table(
        "organization_quotas",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("name_key", sa.String(length=255), nullable=False),
        sa.Column("total_memory_in_mb", sa.BigInteger(), nullable=True),
        sa.Column("per_process_memory_in_mb", sa.BigInteger(), nullable=True),
        sa.Column("log_rate_limit_in_bytes_per_second", sa.BigInteger(), nullable=True),
        sa.Column("total_instances", sa.BigInteger(), nullable=True),
        sa.Column("per_app_tasks", sa.BigInteger(), nullable=True),
        sa.Column("total_service_instances", sa.BigInteger(), nullable=True),
        sa.Column("total_service_keys", sa.BigInteger(), nullable=True),
        sa.Column("total_routes", sa.BigInteger(), nullable=True),
        sa.Column("total_reserved_ports", sa.BigInteger(), nullable=True),
        sa.Column("total_domains", sa.BigInteger(), nullable=True),
        sa.Column("paid_services_allowed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organization_quotas")),
        sa.UniqueConstraint("guid", name=op.f("uq_organization_quotas_guid")),
        sa.UniqueConstraint("name_key", name=op.f("uq_organization_quotas_name_key")),
    )
    op.create_index(op.f("ix_organization_quotas_created_at"), "organization_quotas", ["created_at"], unique=False)
    op.create_index(op.f("ix_organization_quotas_updated_at"), "organization_quotas", ["updated_at"], unique=False)
    op.create_table(
        "platform_state",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_platform_state")),
    )
    op.create_table(
        "refresh_tokens",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("session", sa.String(length=64), nullable=False),
        sa.Column("user_guid", sa.String(length=255), nullable=False),
        sa.Column("client_id", sa.String(length=255), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("grant_type", sa.String(length=64), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("auth_time", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("replaced_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_refresh_tokens")),
    )
    op.create_index(op.f("ix_refresh_tokens_client_id"), "refresh_tokens", ["client_id"], unique=False)
    op.create_index(op.f("ix_refresh_tokens_expires_at"), "refresh_tokens", ["expires_at"], unique=False)
    op.create_index(op.f("ix_refresh_tokens_session"), "refresh_tokens", ["session"], unique=False)
    op.create_index(op.f("ix_refresh_tokens_user_guid"), "refresh_tokens", ["user_guid"], unique=False)
    op.create_table(
        "revocations",
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("id", sa.String(length=512), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "id", name=op.f("pk_revocations")),
    )
    op.create_index(op.f("ix_revocations_expires_at"), "revocations", ["expires_at"], unique=False)
    op.create_table(
        "router_groups",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("type", sa.String(length=8), nullable=False),
        sa.Column("reservable_ports", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_router_groups")),
        sa.UniqueConstraint("guid", name=op.f("uq_router_groups_guid")),
        sa.UniqueConstraint("name", name=op.f("uq_router_groups_name")),
    )
    op.create_index(op.f("ix_router_groups_created_at"), "router_groups", ["created_at"], unique=False)
    op.create_index(op.f("ix_router_groups_updated_at"), "router_groups", ["updated_at"], unique=False)
    op.create_table(
        "row_counts",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("table_name", sa.String(length=63), nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_row_counts")),
    )
    op.create_index("ix_row_counts_table", "row_counts", ["table_name", "change"], unique=False)
    op.create_table(
        "security_groups",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("rules", sa.Text(), nullable=False),
        sa.Column("running_default", sa.Boolean(), nullable=False),
        sa.Column("staging_default", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_security_groups")),
        sa.UniqueConstraint("guid", name=op.f("uq_security_groups_guid")),
        sa.UniqueConstraint("name", name=op.f("uq_security_groups_name")),
    )
    op.create_index(op.f("ix_security_groups_created_at"), "security_groups", ["created_at"], unique=False)
    op.create_index(op.f("ix_security_groups_updated_at"), "security_groups", ["updated_at"], unique=False)
    op.create_table(
        "service_usage_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("space_guid", sa.String(length=255), nullable=False),
        sa.Column("space_name", sa.String(length=255), nullable=False),
        sa.Column("organization_guid", sa.String(length=255), nullable=False),
        sa.Column("service_instance_guid", sa.String(length=255), nullable=False),
        sa.Column("service_instance_name", sa.String(length=255), nullable=False),
        sa.Column("service_instance_type", sa.String(length=40), nullable=False),
        sa.Column("service_plan_guid", sa.String(length=255), nullable=True),
        sa.Column("service_plan_name", sa.String(length=255), nullable=True),
        sa.Column("service_offering_guid", sa.String(length=255), nullable=True),
        sa.Column("service_offering_name", sa.String(length=255), nullable=True),
        sa.Column("service_broker_guid", sa.String(length=255), nullable=True),
        sa.Column("service_broker_name", sa.String(length=255), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_usage_events")),
        sa.UniqueConstraint("guid", name=op.f("uq_service_usage_events_guid")),
    )
    op.create_index(op.f("ix_service_usage_events_created_at"), "service_usage_events", ["created_at"], unique=False)
    op.create_index(
        op.f("ix_service_usage_events_service_offering_guid"),
        "service_usage_events",
        ["service_offering_guid"],
        unique=False,
    )
    op.create_table(
        "stacks",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("description", sa.String(length=250), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("state_reason", sa.Text(), nullable=True),
        sa.Column("build_rootfs_image", sa.String(length=255), nullable=True),
        sa.Column("run_rootfs_image", sa.String(length=255), nullable=True),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.Text(), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stacks")),
        sa.UniqueConstraint("guid", name=op.f("uq_stacks_guid")),
        sa.UniqueConstraint("name", name=op.f("uq_stacks_name")),
    )
    op.create_index(op.f("ix_stacks_created_at"), "stacks", ["created_at"], unique=False)
    op.create_index(op.f("ix_stacks_updated_at"), "stacks", ["updated_at"], unique=False)
    op.create_table(
        "task_numbers",
        sa.Column("app_guid", sa.String(length=255), nullable=False),
        sa.Column("last", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("app_guid", name=op.f("pk_task_numbers")),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("is_client", sa.Boolean(), nullable=False),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.Text(), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("guid", name=op.f("uq_users_guid")),
    )
    op.create_index(op.f("ix_users_created_at"), "users", ["created_at"], unique=False)
    op.create_index(op.f("ix_users_updated_at"), "users", ["updated_at"], unique=False)
    op.create_table(
        "organizations",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("name_key", sa.String(length=255), nullable=False),
        sa.Column("suspended", sa.Boolean(), nullable=False),
        sa.Column("deleting", sa.Boolean(), nullable=False),
        sa.Column("quota_guid", sa.String(length=255), nullable=False),
        sa.Column("default_isolation_segment_guid", sa.String(length=255), nullable=True),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.Text(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(
            ["default_isolation_segment_guid"],
            ["isolation_segments.guid"],
            name=op.f("fk_organizations_default_isolation_segment_guid"),
        ),
        sa.ForeignKeyConstraint(["quota_guid"], ["organization_quotas.guid"], name=op.f("fk_organizations_quota_guid")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organizations")),
        sa.UniqueConstraint("guid", name=op.f("uq_organizations_guid")),
        sa.UniqueConstraint("name_key", name=op.f("uq_organizations_name_key")),
    )
    op.create_index(op.f("ix_organizations_created_at"), "organizations", ["created_at"], unique=False)
    op.create_index(
        op.f("ix_organizations_default_isolation_segment_guid"),
        "organizations",
        ["default_isolation_segment_guid"],
        unique=False,
    )
    op.create_index(op.f("ix_organizations_quota_guid"), "organizations", ["quota_guid"], unique=False)
    op.create_index(op.f("ix_organizations_updated_at"), "organizations", ["updated_at"], unique=False)
    op.create_table(
        "domains",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("internal", sa.Boolean(), nullable=False),
        sa.Column("router_group_guid", sa.String(length=255), nullable=True),
        sa.Column("router_group_type", sa.String(length=8), nullable=True),
        sa.Column("enforce_route_policies", sa.Boolean(), nullable=False),
        sa.Column("route_policies_scope", sa.String(length=8), nullable=True),
        sa.Column("organization_guid", sa.String(length=255), nullable=True),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.Text(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_guid"], ["organizations.guid"], name=op.f("fk_domains_organization_guid")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_domains")),
        sa.UniqueConstraint("guid", name=op.f("uq_domains_guid")),
        sa.UniqueConstraint("name", name=op.f("uq_domains_name")),
    )
    op.create_index(op.f("ix_domains_created_at"), "domains", ["created_at"], unique=False)
    op.create_index(op.f("ix_domains_organization_guid"), "domains", ["organization_guid"], unique=False)
    op.create_index(op.f("ix_domains_updated_at"), "domains", ["updated_at"], unique=False)
    op.create_table(
        "isolation_segment_entitlements",
        sa.Column("isolation_segment_guid", sa.String(length=255), nullable=False),
        sa.Column("organization_guid", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(
            ["isolation_segment_guid"],
            ["isolation_segments.guid"],
            name=op.f("fk_isolation_segment_entitlements_isolation_segment_guid"),
        ),
        sa.ForeignKeyConstraint(
            ["organization_guid"],
            ["organizations.guid"],
            name=op.f("fk_isolation_segment_entitlements_organization_guid"),
        ),
        sa.UniqueConstraint("isolation_segment_guid", "organization_guid", name="uq_isolation_segment_entitlements"),
    )
    op.create_index(
        op.f("ix_isolation_segment_entitlements_isolation_segment_guid"),
        "isolation_segment_entitlements",
        ["isolation_segment_guid"],
        unique=False,
    )
    op.create_index(
        op.f("ix_isolation_segment_entitlements_organization_guid"),
        "isolation_segment_entitlements",
        ["organization_guid"],
        unique=False,
    )
    op.create_table(
        "space_quotas",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("organization_guid", sa.String(length=255), nullable=False),
        sa.Column("total_memory_in_mb", sa.BigInteger(), nullable=True),
        sa.Column("per_process_memory_in_mb", sa.BigInteger(), nullable=True),
        sa.Column("log_rate_limit_in_bytes_per_second", sa.BigInteger(), nullable=True),
        sa.Column("total_instances", sa.BigInteger(), nullable=True),
        sa.Column("per_app_tasks", sa.BigInteger(), nullable=True),
        sa.Column("total_service_instances", sa.BigInteger(), nullable=True),
        sa.Column("total_service_keys", sa.BigInteger(), nullable=True),
        sa.Column("total_routes", sa.BigInteger(), nullable=True),
        sa.Column("total_reserved_ports", sa.BigInteger(), nullable=True),
        sa.Column("paid_services_allowed", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_guid"], ["organizations.guid"], name=op.f("fk_space_quotas_organization_guid")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_space_quotas")),
        sa.UniqueConstraint("guid", name=op.f("uq_space_quotas_guid")),
        sa.UniqueConstraint("organization_guid", "name", name=op.f("uq_space_quotas_organization_guid_name")),
    )
    op.create_index(op.f("ix_space_quotas_created_at"), "space_quotas", ["created_at"], unique=False)
    op.create_index(op.f("ix_space_quotas_organization_guid"), "space_quotas", ["organization_guid"], unique=False)
    op.create_index(op.f("ix_space_quotas_updated_at"), "space_quotas", ["updated_at"], unique=False)
    op.create_table(
        "domain_shares",
        sa.Column("domain_guid", sa.String(length=255), nullable=False),
        sa.Column("organization_guid", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(["domain_guid"], ["domains.guid"], name=op.f("fk_domain_shares_domain_guid")),
        sa.ForeignKeyConstraint(
            ["organization_guid"], ["organizations.guid"], name=op.f("fk_domain_shares_organization_guid")
        ),
        sa.UniqueConstraint(
            "domain_guid", "organization_guid", name=op.f("uq_domain_shares_domain_guid_organization_guid")
        ),
    )
    op.create_index(op.f("ix_domain_shares_domain_guid"), "domain_shares", ["domain_guid"], unique=False)
    op.create_index(op.f("ix_domain_shares_organization_guid"), "domain_shares", ["organization_guid"], unique=False)
    op.create_table(
        "spaces",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("name_key", sa.String(length=255), nullable=False),
        sa.Column("suspended", sa.Boolean(), nullable=False),
        sa.Column("deleting", sa.Boolean(), nullable=False),
        sa.Column("ssh_enabled", sa.Boolean(), nullable=False),
        sa.Column("organization_guid", sa.String(length=255), nullable=False),
        sa.Column("quota_guid", sa.String(length=255), nullable=True),
        sa.Column("isolation_segment_guid", sa.String(length=255), nullable=True),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.Text(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(
            ["isolation_segment_guid"], ["isolation_segments.guid"], name=op.f("fk_spaces_isolation_segment_guid")
        ),
        sa.ForeignKeyConstraint(
            ["organization_guid"], ["organizations.guid"], name=op.f("fk_spaces_organization_guid")
        ),
        sa.ForeignKeyConstraint(["quota_guid"], ["space_quotas.guid"], name=op.f("fk_spaces_quota_guid")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_spaces")),
        sa.UniqueConstraint("guid", name=op.f("uq_spaces_guid")),
        sa.UniqueConstraint("organization_guid", "name_key", name=op.f("uq_spaces_organization_guid_name_key")),
    )
    op.create_index(op.f("ix_spaces_created_at"), "spaces", ["created_at"], unique=False)
    op.create_index(op.f("ix_spaces_isolation_segment_guid"), "spaces", ["isolation_segment_guid"], unique=False)
    op.create_index(op.f("ix_spaces_name_key"), "spaces", ["name_key"], unique=False)
    op.create_index(op.f("ix_spaces_organization_guid"), "spaces", ["organization_guid"], unique=False)
    op.create_index(op.f("ix_spaces_quota_guid"), "spaces", ["quota_guid"], unique=False)
    op.create_index(op.f("ix_spaces_updated_at"), "spaces", ["updated_at"], unique=False)
    op.create_table(
        "apps",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("name_key", sa.String(length=255), nullable=False),
        sa.Column("space_guid", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("lifecycle_type", sa.String(length=16), nullable=False),
        sa.Column("stack", sa.String(length=255), nullable=True),
        sa.Column("buildpacks", sa.Text(), nullable=True),
        sa.Column("cnb_credentials", sa.Text(), nullable=True),
        sa.Column("environment", sa.Text(), nullable=True),
        sa.Column("droplet_guid", sa.String(length=255), nullable=True),
        sa.Column("ssh_enabled", sa.Boolean(), nullable=False),
        sa.Column("revisions_enabled", sa.Boolean(), nullable=False),
        sa.Column("service_binding_k8s", sa.Boolean(), nullable=False),
        sa.Column("file_based_vcap_services", sa.Boolean(), nullable=False),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.Text(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(["space_guid"], ["spaces.guid"], name=op.f("fk_apps_space_guid")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_apps")),
        sa.UniqueConstraint("guid", name=op.f("uq_apps_guid")),
        sa.UniqueConstraint("space_guid", "name_key", name=op.f("uq_apps_space_guid_name_key")),
    )
    op.create_index(op.f("ix_apps_created_at"), "apps", ["created_at"], unique=False)
    op.create_index("ix_apps_created_guid", "apps", ["created_at", "guid"], unique=False)
    op.create_index(op.f("ix_apps_droplet_guid"), "apps", ["droplet_guid"], unique=False)
    op.create_index(op.f("ix_apps_name_key"), "apps", ["name_key"], unique=False)
    op.create_index(op.f("ix_apps_space_guid"), "apps", ["space_guid"], unique=False)
    op.create_index(op.f("ix_apps_updated_at"), "apps", ["updated_at"], unique=False)
    op.create_table(
        "roles",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.String(length=40), nullable=False),
        sa.Column("user_guid", sa.String(length=255), nullable=False),
        sa.Column("organization_guid", sa.String(length=255), nullable=True),
        sa.Column("space_guid", sa.String(length=255), nullable=True),
        sa.Column("target_guid", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(["organization_guid"], ["organizations.guid"], name=op.f("fk_roles_organization_guid")),
        sa.ForeignKeyConstraint(["space_guid"], ["spaces.guid"], name=op.f("fk_roles_space_guid")),
        sa.ForeignKeyConstraint(["user_guid"], ["users.guid"], name=op.f("fk_roles_user_guid")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_roles")),
        sa.UniqueConstraint("guid", name=op.f("uq_roles_guid")),
        sa.UniqueConstraint("user_guid", "type", "target_guid", name=op.f("uq_roles_user_guid_type_target_guid")),
    )
    op.create_index(op.f("ix_roles_created_at"), "roles", ["created_at"], unique=False)
    op.create_index("ix_roles_org_user", "roles", ["organization_guid", "user_guid"], unique=False)
    op.create_index("ix_roles_space_user", "roles", ["space_guid", "user_guid"], unique=False)
    op.create_index("ix_roles_target", "roles", ["target_guid", "type"], unique=False)
    op.create_index(op.f("ix_roles_updated_at"), "roles", ["updated_at"], unique=False)
    op.create_index("ix_roles_user_org", "roles", ["user_guid", "organization_guid", "type"], unique=False)
    op.create_index("ix_roles_user_space", "roles", ["user_guid", "space_guid", "type"], unique=False)
    op.create_table(
        "routes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("host", sa.String(length=63), nullable=False),
        sa.Column("path", sa.String(length=128), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("domain_guid", sa.String(length=255), nullable=False),
        sa.Column("space_guid", sa.String(length=255), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.Text(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(["domain_guid"], ["domains.guid"], name=op.f("fk_routes_domain_guid")),
        sa.ForeignKeyConstraint(["space_guid"], ["spaces.guid"], name=op.f("fk_routes_space_guid")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_routes")),
        sa.UniqueConstraint("domain_guid", "host", "path", "port", name=op.f("uq_routes_domain_guid_host_path_port")),
        sa.UniqueConstraint("guid", name=op.f("uq_routes_guid")),
    )
    op.create_index(op.f("ix_routes_created_at"), "routes", ["created_at"], unique=False)
    op.create_index(op.f("ix_routes_host"), "routes", ["host"], unique=False)
    op.create_index(op.f("ix_routes_space_guid"), "routes", ["space_guid"], unique=False)
    op.create_index(op.f("ix_routes_updated_at"), "routes", ["updated_at"], unique=False)
    op.create_table(
        "security_group_spaces",
        sa.Column("security_group_guid", sa.String(length=255), nullable=False),
        sa.Column("space_guid", sa.String(length=255), nullable=False),
        sa.Column("phase", sa.String(length=8), nullable=False),
        sa.ForeignKeyConstraint(
            ["security_group_guid"], ["security_groups.guid"], name=op.f("fk_security_group_spaces_security_group_guid")
        ),
        sa.ForeignKeyConstraint(["space_guid"], ["spaces.guid"], name=op.f("fk_security_group_spaces_space_guid")),
        sa.UniqueConstraint(
            "security_group_guid",
            "space_guid",
            "phase",
            name=op.f("uq_security_group_spaces_security_group_guid_space_guid_phase"),
        ),
    )
    op.create_index(
        op.f("ix_security_group_spaces_security_group_guid"),
        "security_group_spaces",
        ["security_group_guid"],
        unique=False,
    )
    op.create_index(op.f("ix_security_group_spaces_space_guid"), "security_group_spaces", ["space_guid"], unique=False)
    op.create_table(
        "service_brokers",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("password", sa.Text(), nullable=False),
        sa.Column("anywhere", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("space_guid", sa.String(length=255), nullable=True),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.Text(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(["space_guid"], ["spaces.guid"], name=op.f("fk_service_brokers_space_guid")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_brokers")),
        sa.UniqueConstraint("guid", name=op.f("uq_service_brokers_guid")),
        sa.UniqueConstraint("name", name=op.f("uq_service_brokers_name")),
    )
    op.create_index(op.f("ix_service_brokers_created_at"), "service_brokers", ["created_at"], unique=False)
    op.create_index(op.f("ix_service_brokers_space_guid"), "service_brokers", ["space_guid"], unique=False)
    op.create_index(op.f("ix_service_brokers_updated_at"), "service_brokers", ["updated_at"], unique=False)
    op.create_table(
        "builds",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("app_guid", sa.String(length=255), nullable=False),
        sa.Column("package_guid", sa.String(length=255), nullable=False),
        sa.Column("droplet_guid", sa.String(length=255), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("error_id", sa.String(length=64), nullable=True),
        sa.Column("error_description", sa.Text(), nullable=True),
        sa.Column("lifecycle_type", sa.String(length=16), nullable=False),
        sa.Column("buildpacks", sa.Text(), nullable=True),
        sa.Column("stack", sa.String(length=255), nullable=True),
        sa.Column("environment", sa.Text(), nullable=True),
        sa.Column("memory_mb", sa.BigInteger(), nullable=False),
        sa.Column("disk_mb", sa.BigInteger(), nullable=False),
        sa.Column("log_rate", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("created_by_guid", sa.String(length=255), nullable=True),
        sa.Column("created_by_name", sa.String(length=255), nullable=True),
        sa.Column("created_by_email", sa.String(length=255), nullable=True),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.Text(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(["app_guid"], ["apps.guid"], name=op.f("fk_builds_app_guid")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_builds")),
        sa.UniqueConstraint("guid", name=op.f("uq_builds_guid")),
    )
    op.create_index(op.f("ix_builds_app_guid"), "builds", ["app_guid"], unique=False)
    op.create_index(op.f("ix_builds_created_at"), "builds", ["created_at"], unique=False)
    op.create_index(op.f("ix_builds_droplet_guid"), "builds", ["droplet_guid"], unique=False)
    op.create_index(op.f("ix_builds_package_guid"), "builds", ["package_guid"], unique=False)
    op.create_index("ix_builds_state", "builds", ["state"], unique=False)
    op.create_index(op.f("ix_builds_updated_at"), "builds", ["updated_at"], unique=False)
    op.create_table(
        "deployments",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("app_guid", sa.String(length=255), nullable=False),
        sa.Column("status_value", sa.String(length=16), nullable=False),
        sa.Column("status_reason", sa.String(length=16), nullable=False),
        sa.Column("strategy", sa.String(length=16), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("droplet_guid", sa.String(length=255), nullable=True),
        sa.Column("previous_droplet_guid", sa.String(length=255), nullable=True),
        sa.Column("target_revision_guid", sa.String(length=255), nullable=True),
        sa.Column("revision_guid", sa.String(length=255), nullable=True),
        sa.Column("revision_version", sa.Integer(), nullable=True),
        sa.Column("deploying_process_guid", sa.String(length=255), nullable=True),
        sa.Column("kept_process_guid", sa.String(length=255), nullable=True),
        sa.Column("new_processes", sa.Text(), nullable=False),
        sa.Column("original_instances", sa.Integer(), nullable=False),
        sa.Column("canary_step", sa.Integer(), nullable=True),
        sa.Column("canary_total", sa.Integer(), nullable=True),
        sa.Column("last_healthy_at", sa.BigInteger(), nullable=True),
        sa.Column("status_changed_at", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.Text(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(["app_guid"], ["apps.guid"], name=op.f("fk_deployments_app_guid")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deployments")),
        sa.UniqueConstraint("guid", name=op.f("uq_deployments_guid")),
    )
    op.create_index("ix_deployments_active", "deployments", ["status_value", "app_guid"], unique=False)
    op.create_index(op.f("ix_deployments_app_guid"), "deployments", ["app_guid"], unique=False)
    op.create_index(op.f("ix_deployments_created_at"), "deployments", ["created_at"], unique=False)
    op.create_index(
        op.f("ix_deployments_deploying_process_guid"), "deployments", ["deploying_process_guid"], unique=False
    )
    op.create_index(op.f("ix_deployments_updated_at"), "deployments", ["updated_at"], unique=False)
    op.create_table(
        "destinations",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("route_guid", sa.String(length=255), nullable=False),
        sa.Column("app_guid", sa.String(length=255), nullable=False),
        sa.Column("process_type", sa.String(length=255), nullable=False),
        sa.Column("port", sa.Integer(), nullable=True),
        sa.Column("protocol", sa.String(length=8), nullable=True),
        sa.Column("weight", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["app_guid"], ["apps.guid"], name=op.f("fk_destinations_app_guid")),
        sa.ForeignKeyConstraint(["route_guid"], ["routes.guid"], name=op.f("fk_destinations_route_guid")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_destinations")),
        sa.UniqueConstraint("guid", name=op.f("uq_destinations_guid")),
    )
    op.create_index("ix_destinations_app_type", "destinations", ["app_guid", "process_type"], unique=False)
    op.create_index(op.f("ix_destinations_created_at"), "destinations", ["created_at"], unique=False)
    op.create_index("ix_destinations_route", "destinations", ["route_guid"], unique=False)
    op.create_index(op.f("ix_destinations_updated_at"), "destinations", ["updated_at"], unique=False)
    op.create_table(
        "droplets",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("app_guid", sa.String(length=255), nullable=False),
        sa.Column("package_guid", sa.String(length=255), nullable=True),
        sa.Column("build_guid", sa.String(length=255), nullable=True),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("lifecycle_type", sa.String(length=16), nullable=False),
        sa.Column("stack", sa.String(length=255), nullable=True),
        sa.Column("image", sa.Text(), nullable=True),
        sa.Column("digest", sa.String(length=80), nullable=True),
        sa.Column("sha1", sa.String(length=40), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("buildpacks", sa.Text(), nullable=True),
        sa.Column("process_types", sa.Text(), nullable=False),
        sa.Column("sidecars", sa.Text(), nullable=False),
        sa.Column("execution_metadata", sa.Text(), nullable=False),
        sa.Column("stack_fingerprint", sa.String(length=255), nullable=False),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.Text(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(["app_guid"], ["apps.guid"], name=op.f("fk_droplets_app_guid")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_droplets")),
        sa.UniqueConstraint("guid", name=op.f("uq_droplets_guid")),
    )
    op.create_index(op.f("ix_droplets_app_guid"), "droplets", ["app_guid"], unique=False)
    op.create_index(op.f("ix_droplets_created_at"), "droplets", ["created_at"], unique=False)
    op.create_index(op.f("ix_droplets_package_guid"), "droplets", ["package_guid"], unique=False)
    op.create_index(op.f("ix_droplets_updated_at"), "droplets", ["updated_at"], unique=False)
    op.create_table(
        "locks",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("app_guid", sa.String(length=255), nullable=False),
        sa.Column("title", sa.String(length=250), nullable=False),
        sa.Column("title_key", sa.String(length=250), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.Text(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(["app_guid"], ["apps.guid"], name=op.f("fk_locks_app_guid")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_locks")),
        sa.UniqueConstraint("app_guid", "title_key", name=op.f("uq_locks_app_guid_title_key")),
        sa.UniqueConstraint("guid", name=op.f("uq_locks_guid")),
    )
    op.create_index(op.f("ix_locks_app_guid"), "locks", ["app_guid"], unique=False)
    op.create_index(op.f("ix_locks_created_at"), "locks", ["created_at"], unique=False)
    op.create_index(op.f("ix_locks_updated_at"), "locks", ["updated_at"], unique=False)
    op.create_table(
        "packages",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("app_guid", sa.String(length=255), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("digest", sa.String(length=80), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("image", sa.Text(), nullable=True),
        sa.Column("username", sa.Text(), nullable=True),
        sa.Column("password", sa.Text(), nullable=True),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.Text(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(["app_guid"], ["apps.guid"], name=op.f("fk_packages_app_guid")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_packages")),
        sa.UniqueConstraint("guid", name=op.f("uq_packages_guid")),
    )
    op.create_index(op.f("ix_packages_app_guid"), "packages", ["app_guid"], unique=False)
    op.create_index(op.f("ix_packages_created_at"), "packages", ["created_at"], unique=False)
    op.create_index(op.f("ix_packages_updated_at"), "packages", ["updated_at"], unique=False)
    op.create_table(
        "processes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("app_guid", sa.String(length=255), nullable=False),
        sa.Column("type", sa.String(length=255), nullable=False),
        sa.Column("command", sa.Text(), nullable=True),
        sa.Column("user", sa.String(length=64), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("instances", sa.Integer(), nullable=False),
        sa.Column("memory_mb", sa.BigInteger(), nullable=False),
        sa.Column("disk_mb", sa.BigInteger(), nullable=False),
        sa.Column("log_rate", sa.BigInteger(), nullable=False),
        sa.Column("health_check_type", sa.String(length=16), nullable=False),
        sa.Column("health_check_endpoint", sa.Text(), nullable=True),
        sa.Column("health_check_timeout", sa.Integer(), nullable=True),
        sa.Column("health_check_invocation_timeout", sa.Integer(), nullable=True),
        sa.Column("health_check_interval", sa.Integer(), nullable=True),
        sa.Column("readiness_type", sa.String(length=16), nullable=False),
        sa.Column("readiness_endpoint", sa.Text(), nullable=True),
        sa.Column("readiness_invocation_timeout", sa.Integer(), nullable=True),
        sa.Column("readiness_interval", sa.Integer(), nullable=True),
        sa.Column("revision_guid", sa.String(length=255), nullable=True),
        sa.Column("droplet_guid", sa.String(length=255), nullable=True),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.Text(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(["app_guid"], ["apps.guid"], name=op.f("fk_processes_app_guid")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_processes")),
        sa.UniqueConstraint("guid", name=op.f("uq_processes_guid")),
    )
    op.create_index(op.f("ix_processes_app_guid"), "processes", ["app_guid"], unique=False)
    op.create_index("ix_processes_app_type", "processes", ["app_guid", "type"], unique=False)
    op.create_index(op.f("ix_processes_created_at"), "processes", ["created_at"], unique=False)
    op.create_index("ix_processes_state", "processes", ["state"], unique=False)
    op.create_index(op.f("ix_processes_updated_at"), "processes", ["updated_at"], unique=False)
    op.create_table(
        "registry_credentials",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("location", sa.String(length=1024), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("password", sa.Text(), nullable=False),
        sa.Column("scope", sa.String(length=16), nullable=False),
        sa.Column("organization_guid", sa.String(length=255), nullable=True),
        sa.Column("space_guid", sa.String(length=255), nullable=True),
        sa.Column("app_guid", sa.String(length=255), nullable=True),
        sa.Column("target_guid", sa.String(length=255), nullable=False),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.Text(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(["app_guid"], ["apps.guid"], name=op.f("fk_registry_credentials_app_guid")),
        sa.ForeignKeyConstraint(
            ["organization_guid"], ["organizations.guid"], name=op.f("fk_registry_credentials_organization_guid")
        ),
        sa.ForeignKeyConstraint(["space_guid"], ["spaces.guid"], name=op.f("fk_registry_credentials_space_guid")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_registry_credentials")),
        sa.UniqueConstraint("guid", name=op.f("uq_registry_credentials_guid")),
        sa.UniqueConstraint("target_guid", "location", name=op.f("uq_registry_credentials_target_guid_location")),
    )
    op.create_index(op.f("ix_registry_credentials_app_guid"), "registry_credentials", ["app_guid"], unique=False)
    op.create_index(op.f("ix_registry_credentials_created_at"), "registry_credentials", ["created_at"], unique=False)
    op.create_index(
        op.f("ix_registry_credentials_organization_guid"), "registry_credentials", ["organization_guid"], unique=False
    )
    op.create_index(op.f("ix_registry_credentials_space_guid"), "registry_credentials", ["space_guid"], unique=False)
    op.create_index(op.f("ix_registry_credentials_updated_at"), "registry_credentials", ["updated_at"], unique=False)
    op.create_table(
        "revisions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("app_guid", sa.String(length=255), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("droplet_guid", sa.String(length=255), nullable=True),
        sa.Column("environment", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("processes", sa.Text(), nullable=False),
        sa.Column("sidecars", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.Text(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(["app_guid"], ["apps.guid"], name=op.f("fk_revisions_app_guid")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_revisions")),
        sa.UniqueConstraint("guid", name=op.f("uq_revisions_guid")),
    )
    op.create_index("ix_revisions_app_version", "revisions", ["app_guid", "version"], unique=False)
    op.create_index(op.f("ix_revisions_created_at"), "revisions", ["created_at"], unique=False)
    op.create_index(op.f("ix_revisions_droplet_guid"), "revisions", ["droplet_guid"], unique=False)
    op.create_index(op.f("ix_revisions_updated_at"), "revisions", ["updated_at"], unique=False)
    op.create_table(
        "route_policies",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("route_guid", sa.String(length=255), nullable=False),
        sa.Column("source", sa.String(length=320), nullable=False),
        sa.Column("source_guid", sa.String(length=255), nullable=False),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.Text(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(["route_guid"], ["routes.guid"], name=op.f("fk_route_policies_route_guid")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_route_policies")),
        sa.UniqueConstraint("guid", name=op.f("uq_route_policies_guid")),
        sa.UniqueConstraint("route_guid", "source", name=op.f("uq_route_policies_route_guid_source")),
    )
    op.create_index(op.f("ix_route_policies_created_at"), "route_policies", ["created_at"], unique=False)
    op.create_index(op.f("ix_route_policies_source_guid"), "route_policies", ["source_guid"], unique=False)
    op.create_index(op.f("ix_route_policies_updated_at"), "route_policies", ["updated_at"], unique=False)
    op.create_table(
        "route_shares",
        sa.Column("route_guid", sa.String(length=255), nullable=False),
        sa.Column("space_guid", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(["route_guid"], ["routes.guid"], name=op.f("fk_route_shares_route_guid")),
        sa.ForeignKeyConstraint(["space_guid"], ["spaces.guid"], name=op.f("fk_route_shares_space_guid")),
        sa.UniqueConstraint("route_guid", "space_guid", name=op.f("uq_route_shares_route_guid_space_guid")),
    )
    op.create_index(op.f("ix_route_shares_route_guid"), "route_shares", ["route_guid"], unique=False)
    op.create_index(op.f("ix_route_shares_space_guid"), "route_shares", ["space_guid"], unique=False)
    op.create_table(
        "service_dashboard_clients",
        sa.Column("client_id", sa.String(length=255), nullable=False),
        sa.Column("service_broker_guid", sa.String(length=255), nullable=False),
        sa.Column("offering_catalog_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["service_broker_guid"],
            ["service_brokers.guid"],
            name=op.f("fk_service_dashboard_clients_service_broker_guid"),
        ),
        sa.PrimaryKeyConstraint("client_id", name=op.f("pk_service_dashboard_clients")),
    )
    op.create_index(
        op.f("ix_service_dashboard_clients_service_broker_guid"),
        "service_dashboard_clients",
        ["service_broker_guid"],
        unique=False,
    )
    op.create_table(
        "service_offerings",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("service_broker_guid", sa.String(length=255), nullable=False),
        sa.Column("catalog_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("available", sa.Boolean(), nullable=False),
        sa.Column("bindable", sa.Boolean(), nullable=False),
        sa.Column("plan_updateable", sa.Boolean(), nullable=False),
        sa.Column("instances_retrievable", sa.Boolean(), nullable=False),
        sa.Column("bindings_retrievable", sa.Boolean(), nullable=False),
        sa.Column("allow_context_updates", sa.Boolean(), nullable=False),
        sa.Column("shareable", sa.Boolean(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("requires", sa.Text(), nullable=False),
        sa.Column("documentation_url", sa.Text(), nullable=False),
        sa.Column("catalog_metadata", sa.Text(), nullable=False),
        sa.Column("osmapi_features", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.Text(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(
            ["service_broker_guid"], ["service_brokers.guid"], name=op.f("fk_service_offerings_service_broker_guid")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_offerings")),
        sa.UniqueConstraint("guid", name=op.f("uq_service_offerings_guid")),
        sa.UniqueConstraint(
            "service_broker_guid", "catalog_id", name=op.f("uq_service_offerings_service_broker_guid_catalog_id")
        ),
    )
    op.create_index(op.f("ix_service_offerings_catalog_id"), "service_offerings", ["catalog_id"], unique=False)
    op.create_index(op.f("ix_service_offerings_created_at"), "service_offerings", ["created_at"], unique=False)
    op.create_index(op.f("ix_service_offerings_name_key"), "service_offerings", ["name_key"], unique=False)
    op.create_index(
        op.f("ix_service_offerings_service_broker_guid"), "service_offerings", ["service_broker_guid"], unique=False
    )
    op.create_index(op.f("ix_service_offerings_updated_at"), "service_offerings", ["updated_at"], unique=False)
    op.create_table(
        "sidecars",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("app_guid", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("command", sa.String(length=4096), nullable=False),
        sa.Column("memory_mb", sa.BigInteger(), nullable=True),
        sa.Column("origin", sa.String(length=16), nullable=False),
        sa.Column("process_types", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["app_guid"], ["apps.guid"], name=op.f("fk_sidecars_app_guid")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sidecars")),
        sa.UniqueConstraint("app_guid", "name", name=op.f("uq_sidecars_app_guid_name")),
        sa.UniqueConstraint("guid", name=op.f("uq_sidecars_guid")),
    )
    op.create_index(op.f("ix_sidecars_app_guid"), "sidecars", ["app_guid"], unique=False)
    op.create_index(op.f("ix_sidecars_created_at"), "sidecars", ["created_at"], unique=False)
    op.create_index(op.f("ix_sidecars_updated_at"), "sidecars", ["updated_at"], unique=False)
    op.create_table(
        "tasks",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("app_guid", sa.String(length=255), nullable=False),
        sa.Column("sequence_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("name_key", sa.String(length=255), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("user", sa.String(length=255), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("memory_mb", sa.BigInteger(), nullable=False),
        sa.Column("disk_mb", sa.BigInteger(), nullable=False),
        sa.Column("log_rate", sa.BigInteger(), nullable=False),
        sa.Column("droplet_guid", sa.String(length=255), nullable=False),
        sa.Column("failure_reason", sa.Text(), nullable=True),
        sa.Column("cell_id", sa.String(length=64), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.Text(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(["app_guid"], ["apps.guid"], name=op.f("fk_tasks_app_guid")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasks")),
        sa.UniqueConstraint("app_guid", "sequence_id", name=op.f("uq_tasks_app_guid_sequence_id")),
        sa.UniqueConstraint("guid", name=op.f("uq_tasks_guid")),
    )
    op.create_index(op.f("ix_tasks_app_guid"), "tasks", ["app_guid"], unique=False)
    op.create_index(op.f("ix_tasks_created_at"), "tasks", ["created_at"], unique=False)
    op.create_index(op.f("ix_tasks_droplet_guid"), "tasks", ["droplet_guid"], unique=False)
    op.create_index("ix_tasks_state", "tasks", ["state", "updated_at"], unique=False)
    op.create_index(op.f("ix_tasks_updated_at"), "tasks", ["updated_at"], unique=False)
    op.create_table(
        "service_plans",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("service_offering_guid", sa.String(length=255), nullable=False),
        sa.Column("service_broker_guid", sa.String(length=255), nullable=False),
        sa.Column("space_guid", sa.String(length=255), nullable=True),
        sa.Column("catalog_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("available", sa.Boolean(), nullable=False),
        sa.Column("visibility_type", sa.String(length=16), nullable=False),
        sa.Column("free", sa.Boolean(), nullable=False),
        sa.Column("bindable", sa.Boolean(), nullable=False),
        sa.Column("plan_updateable", sa.Boolean(), nullable=False),
        sa.Column("maximum_polling_duration", sa.Integer(), nullable=True),
        sa.Column("maintenance_info", sa.Text(), nullable=False),
        sa.Column("catalog_metadata", sa.Text(), nullable=False),
        sa.Column("schemas", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.Text(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(
            ["service_broker_guid"], ["service_brokers.guid"], name=op.f("fk_service_plans_service_broker_guid")
        ),
        sa.ForeignKeyConstraint(
            ["service_offering_guid"], ["service_offerings.guid"], name=op.f("fk_service_plans_service_offering_guid")
        ),
        sa.ForeignKeyConstraint(["space_guid"], ["spaces.guid"], name=op.f("fk_service_plans_space_guid")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_plans")),
        sa.UniqueConstraint("guid", name=op.f("uq_service_plans_guid")),
        sa.UniqueConstraint(
            "service_offering_guid", "catalog_id", name=op.f("uq_service_plans_service_offering_guid_catalog_id")
        ),
    )
    op.create_index(op.f("ix_service_plans_catalog_id"), "service_plans", ["catalog_id"], unique=False)
    op.create_index(op.f("ix_service_plans_created_at"), "service_plans", ["created_at"], unique=False)
    op.create_index(op.f("ix_service_plans_name_key"), "service_plans", ["name_key"], unique=False)
    op.create_index(
        op.f("ix_service_plans_service_broker_guid"), "service_plans", ["service_broker_guid"], unique=False
    )
    op.create_index(op.f("ix_service_plans_space_guid"), "service_plans", ["space_guid"], unique=False)
    op.create_index(op.f("ix_service_plans_updated_at"), "service_plans", ["updated_at"], unique=False)
    op.create_index(op.f("ix_service_plans_visibility_type"), "service_plans", ["visibility_type"], unique=False)
    op.create_table(
        "service_instances",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("space_guid", sa.String(length=255), nullable=False),
        sa.Column("service_plan_guid", sa.String(length=255), nullable=True),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("credentials", sa.Text(), nullable=True),
        sa.Column("syslog_drain_url", sa.Text(), nullable=True),
        sa.Column("syslog_drain_anywhere", sa.Boolean(), nullable=False),
        sa.Column("route_service_url", sa.Text(), nullable=True),
        sa.Column("route_service_anywhere", sa.Boolean(), nullable=False),
        sa.Column("dashboard_url", sa.Text(), nullable=True),
        sa.Column("maintenance_info", sa.Text(), nullable=False),
        sa.Column("broker_provided_metadata", sa.Text(), nullable=True),
        sa.Column("operation_type", sa.String(length=8), nullable=True),
        sa.Column("operation_state", sa.String(length=16), nullable=True),
        sa.Column("operation_description", sa.Text(), nullable=True),
        sa.Column("operation_created_at", sa.BigInteger(), nullable=True),
        sa.Column("operation_updated_at", sa.BigInteger(), nullable=True),
        sa.Column("broker_operation", sa.Text(), nullable=True),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.Text(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(
            ["service_plan_guid"], ["service_plans.guid"], name=op.f("fk_service_instances_service_plan_guid")
        ),
        sa.ForeignKeyConstraint(["space_guid"], ["spaces.guid"], name=op.f("fk_service_instances_space_guid")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_instances")),
        sa.UniqueConstraint("guid", name=op.f("uq_service_instances_guid")),
        sa.UniqueConstraint("space_guid", "name", name=op.f("uq_service_instances_space_guid_name")),
    )
    op.create_index(op.f("ix_service_instances_created_at"), "service_instances", ["created_at"], unique=False)
    op.create_index("ix_service_instances_name", "service_instances", ["name"], unique=False)
    op.create_index(
        "ix_service_instances_operation", "service_instances", ["operation_state", "operation_updated_at"], unique=False
    )
    op.create_index(
        op.f("ix_service_instances_service_plan_guid"), "service_instances", ["service_plan_guid"], unique=False
    )
    op.create_index(op.f("ix_service_instances_updated_at"), "service_instances", ["updated_at"], unique=False)
    op.create_table(
        "service_plan_visibilities",
        sa.Column("service_plan_guid", sa.String(length=255), nullable=False),
        sa.Column("organization_guid", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_guid"], ["organizations.guid"], name=op.f("fk_service_plan_visibilities_organization_guid")
        ),
        sa.ForeignKeyConstraint(
            ["service_plan_guid"], ["service_plans.guid"], name=op.f("fk_service_plan_visibilities_service_plan_guid")
        ),
        sa.PrimaryKeyConstraint("service_plan_guid", "organization_guid", name=op.f("pk_service_plan_visibilities")),
    )
    op.create_index(
        "ix_service_plan_visibilities_organization_guid",
        "service_plan_visibilities",
        ["organization_guid", "service_plan_guid"],
        unique=False,
    )
    op.create_table(
        "service_credential_bindings",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.String(length=8), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("service_instance_guid", sa.String(length=255), nullable=False),
        sa.Column("app_guid", sa.String(length=255), nullable=True),
        sa.Column("credentials", sa.Text(), nullable=True),
        sa.Column("syslog_drain_url", sa.Text(), nullable=True),
        sa.Column("volume_mounts", sa.Text(), nullable=True),
        sa.Column("endpoints", sa.Text(), nullable=True),
        sa.Column("operation_type", sa.String(length=8), nullable=True),
        sa.Column("operation_state", sa.String(length=16), nullable=True),
        sa.Column("operation_description", sa.Text(), nullable=True),
        sa.Column("operation_created_at", sa.BigInteger(), nullable=True),
        sa.Column("operation_updated_at", sa.BigInteger(), nullable=True),
        sa.Column("broker_operation", sa.Text(), nullable=True),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.Text(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(["app_guid"], ["apps.guid"], name=op.f("fk_service_credential_bindings_app_guid")),
        sa.ForeignKeyConstraint(
            ["service_instance_guid"],
            ["service_instances.guid"],
            name=op.f("fk_service_credential_bindings_service_instance_guid"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_credential_bindings")),
        sa.UniqueConstraint("guid", name=op.f("uq_service_credential_bindings_guid")),
    )
    op.create_index(
        op.f("ix_service_credential_bindings_app_guid"), "service_credential_bindings", ["app_guid"], unique=False
    )
    op.create_index(
        op.f("ix_service_credential_bindings_created_at"), "service_credential_bindings", ["created_at"], unique=False
    )
    op.create_index(
        "ix_service_credential_bindings_instance",
        "service_credential_bindings",
        ["service_instance_guid", "type", "app_guid"],
        unique=False,
    )
    op.create_index(
        "ix_service_credential_bindings_operation",
        "service_credential_bindings",
        ["operation_state", "operation_updated_at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_service_credential_bindings_updated_at"), "service_credential_bindings", ["updated_at"], unique=False
    )
    op.create_table(
        "service_instance_shares",
        sa.Column("service_instance_guid", sa.String(length=255), nullable=False),
        sa.Column("space_guid", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(
            ["service_instance_guid"],
            ["service_instances.guid"],
            name=op.f("fk_service_instance_shares_service_instance_guid"),
        ),
        sa.ForeignKeyConstraint(["space_guid"], ["spaces.guid"], name=op.f("fk_service_instance_shares_space_guid")),
        sa.UniqueConstraint(
            "service_instance_guid",
            "space_guid",
            name=op.f("uq_service_instance_shares_service_instance_guid_space_guid"),
        ),
    )
    op.create_index(
        op.f("ix_service_instance_shares_space_guid"), "service_instance_shares", ["space_guid"], unique=False
    )
    op.create_table(
        "service_route_bindings",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("guid", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("service_instance_guid", sa.String(length=255), nullable=False),
        sa.Column("route_guid", sa.String(length=255), nullable=False),
        sa.Column("route_service_url", sa.Text(), nullable=True),
        sa.Column("operation_type", sa.String(length=8), nullable=True),
        sa.Column("operation_state", sa.String(length=16), nullable=True),
        sa.Column("operation_description", sa.Text(), nullable=True),
        sa.Column("operation_created_at", sa.BigInteger(), nullable=True),
        sa.Column("operation_updated_at", sa.BigInteger(), nullable=True),
        sa.Column("broker_operation", sa.Text(), nullable=True),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("annotations", sa.Text(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(["route_guid"], ["routes.guid"], name=op.f("fk_service_route_bindings_route_guid")),
        sa.ForeignKeyConstraint(
            ["service_instance_guid"],
            ["service_instances.guid"],
            name=op.f("fk_service_route_bindings_service_instance_guid"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_route_bindings")),
        sa.UniqueConstraint("guid", name=op.f("uq_service_route_bindings_guid")),
    )
    op.create_index(
        op.f("ix_service_route_bindings_created_at"), "service_route_bindings", ["created_at"], unique=False
    )
    op.create_index(
        "ix_service_route_bindings_operation",
        "service_route_bindings",
        ["operation_state", "operation_updated_at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_service_route_bindings_route_guid"), "service_route_bindings", ["route_guid"], unique=False
    )
    op.create_index(
        op.f("ix_service_route_bindings_service_instance_guid"),
        "service_route_bindings",
        ["service_instance_guid"],
        unique=False,
    )
    op.create_index(
        op.f("ix_service_route_bindings_updated_at"), "service_route_bindings", ["updated_at"], unique=False
    )
