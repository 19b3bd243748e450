"""`column IN (values)` on PostgreSQL: one array rather than a parameter for each value.

A hundred parameters cost more than the query that they are for: each is converted and cast alone, the driver takes the
text apart anew each time, and every number of values is another statement to the server. An array is found in an index
in the same way.
"""

from typing import Any

from sqlalchemy import ARRAY, BinaryExpression, String, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import operators
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import BindParameter
from sqlalchemy.types import TupleType

__all__: list[str] = []

_AS_ARRAY = {operators.in_op: "= ANY", operators.not_in_op: "<> ALL"}


@compiles(BinaryExpression, "postgresql")
def _in_array(element: BinaryExpression[Any], compiler: SQLCompiler, **more: Any) -> str:
    how = _AS_ARRAY.get(element.operator)
    values = element.right
    if (
        how is None
        or not isinstance(values, BindParameter)
        or not values.expanding
        or isinstance(values.type, TupleType)
    ):
        plain: str = compiler.visit_binary(element, **more)  # type: ignore[no-untyped-call]  # SQLAlchemy's own
        return plain
    # A cast to VARCHAR(255)[] would cut longer values off, and then find what they begin with.
    kind = String() if isinstance(values.type, String) else values.type
    array = bindparam(values.key, values.value, type_=ARRAY(kind))
    return f"{compiler.process(element.left, **more)} {how} ({compiler.process(array, **more)})"
