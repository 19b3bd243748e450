"""How many rows the big tables have, on PostgreSQL: known rather than counted.

Each page of a list says how many there are in all. PostgreSQL counts by reading an index through, ten milliseconds for
every hundred thousand rows, while a page takes one. So triggers write down what each statement adds and takes away, in
its own transaction: the sum is what counting gives, to whoever sees the rows. Nobody waits for anybody: a change is a row
of its own, and one of every 256 adds up those that no other transaction holds.

SQLite needs none of it: it counts pages of an index, a hundred times as fast.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Insert,
    Select,
    String,
    Table,
    cast,
    func,
    insert,
    literal,
    select,
    table,
    text,
    union_all,
)

from cupola.store.schema import big_id, metadata

__all__ = ["COUNTED", "ensure", "known", "row_counts"]

COUNTED = (
    "apps",
    "audit_events",
    "domains",
    "organizations",
    "processes",
    "roles",
    "routes",
    "service_instances",
    "spaces",
    "users",
)
"""Tables that may have tens of thousands of rows and that are listed as a whole."""

row_counts = Table(
    "row_counts",
    metadata,
    big_id(),
    Column("table_name", String(63), nullable=False),
    Column("change", BigInteger, nullable=False),
    Index("ix_row_counts_table", "table_name", "change"),
)
"""Written by triggers alone: the changes of a table's number of rows that were not yet added up."""

_FUNCTION = """
CREATE OR REPLACE FUNCTION note_row_count() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $function$
DECLARE
    noted bigint;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM row_counts WHERE table_name = TG_TABLE_NAME;
        RETURN NULL;
    ELSIF TG_OP = 'INSERT' THEN
        INSERT INTO row_counts (table_name, change)
        SELECT TG_TABLE_NAME, count(*) FROM changed HAVING count(*) > 0 RETURNING id INTO noted;
    ELSE
        INSERT INTO row_counts (table_name, change)
        SELECT TG_TABLE_NAME, -count(*) FROM changed HAVING count(*) > 0 RETURNING id INTO noted;
    END IF;
    IF noted % 256 = 0 THEN
        WITH free AS (SELECT id FROM row_counts WHERE table_name = TG_TABLE_NAME FOR UPDATE SKIP LOCKED),
        taken AS (DELETE FROM row_counts USING free WHERE row_counts.id = free.id RETURNING row_counts.change)
        INSERT INTO row_counts (table_name, change) SELECT TG_TABLE_NAME, sum(change) FROM taken HAVING count(*) > 0;
    END IF;
    RETURN NULL;
END $function$
"""
_TRIGGERS = {
    "INSERT": "REFERENCING NEW TABLE AS changed",
    "DELETE": "REFERENCING OLD TABLE AS changed",
    "TRUNCATE": "",
}


def known(counted: Table) -> Select[Any] | None:
    """A statement for the number of rows of a table on PostgreSQL; None where it is not kept."""
    return _sum(counted.name) if counted.name in COUNTED else None


def _sum(name: str) -> Select[Any]:
    total = cast(func.coalesce(func.sum(row_counts.c.change), 0), BigInteger)
    return select(total).where(row_counts.c.table_name == name)


def ensure(connection: Connection) -> None:
    """Make what is missing and correct what is wrong, as after a partial restore with triggers off.

    For the start of a platform; the caller keeps others from doing the same at the same time.
    """
    if connection.dialect.name != "postgresql":
        return
    connection.execute(text(_FUNCTION))
    there = {tuple(row) for row in connection.execute(text(_THERE), {"tables": list(COUNTED)})}
    for name in COUNTED:
        for event, changed in _TRIGGERS.items():
            trigger = f"note_row_count_{event.lower()}"
            if (name, trigger) not in there:
                when = f"AFTER {event} ON {name} {changed} FOR EACH STATEMENT"
                connection.execute(text(f"CREATE TRIGGER {trigger} {when} EXECUTE FUNCTION note_row_count()"))
    # One statement sees one state of both tables, whatever others write meanwhile.
    connection.execute(_corrections())


_THERE = """
SELECT pg_class.relname, pg_trigger.tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = pg_trigger.tgrelid
WHERE pg_class.relname = ANY (:tables) AND pg_table_is_visible(pg_class.oid)
"""


def _wrong(name: str) -> Select[Any]:
    counted = select(func.count()).select_from(table(name)).scalar_subquery()
    return select(literal(name).label("table_name"), (counted - _sum(name).scalar_subquery()).label("change"))


def _corrections() -> Insert:
    wrong = union_all(*(_wrong(name) for name in COUNTED)).subquery()
    return insert(row_counts).from_select(["table_name", "change"], select(wrong).where(wrong.c.change != 0))
