"""Actual LRPs: what the cells reported, so that stats and route tables never ask an engine while a client waits."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table, Text

from cupola.store.schema import Json, metadata

__all__ = ["cells", "instances"]

instances = Table(
    "instances",
    metadata,
    Column("process_guid", String(255), primary_key=True),
    Column("index", Integer, primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("instance_guid", String(64), nullable=False),
    Column("cell_id", String(64), nullable=False, index=True),
    Column("state", String(16), nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("routable", Boolean, nullable=False, default=False),
    Column("endpoints", Json, nullable=False),
    Column("host", String(64), nullable=False, default=""),
    Column("internal_ip", String(64), nullable=False, default=""),
    Column("ports", Json, nullable=False),
    Column("details", Text, nullable=False, default=""),
    Column("crash_count", Integer, nullable=False, default=0),
    Column("terminate", Boolean, nullable=False, default=False),
    Index("ix_instances_guid", "instance_guid"),
)
"""Rows of no reference: a process may be gone before its last instance is. `terminate`: a user asked to replace it."""

cells = Table(
    "cells",
    metadata,
    Column("cell_id", String(64), primary_key=True),
    Column("last_event", BigInteger, nullable=False, default=0),
    Column("seen_at", BigInteger, nullable=False, default=0),
)
"""`last_event` deduplicates: a cell delivers each event at least once."""
