"""JSON schemas of a catalog's plans: what is wrong with one, in Cloud Foundry's words.

Schemas are never resolved to other documents: references lead inside the schema or are refused.
"""

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from cupola.domain.ruby import inspected

# The library is loaded where it is needed: that takes as long as a tenth of the platform's start.
if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

__all__ = ["PLACES", "parameters_problems", "schema_problems"]

PLACES = (("service_instance", "create"), ("service_instance", "update"), ("service_binding", "create"))
"""Where a plan may have a schema of parameters."""
_MAX_BYTES = 64 * 1024
_MAX_DEPTH = 60
_KNOWN = {
    "http://json-schema.org/draft-03/schema",
    "http://json-schema.org/draft-04/schema",
    "http://json-schema.org/draft-06/schema",
    "http://json-schema.org/draft-07/schema",
    "http://json-schema.org/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
}


def schema_problems(schemas: Any) -> Iterator[str]:
    """All complaints about `schemas` of a plan."""
    if schemas is None:
        return
    if not isinstance(schemas, dict):
        yield f"Schemas must be a hash, but has value {inspected(schemas)}"
        return
    for kind in dict.fromkeys(kind for kind, _ in PLACES):
        found = schemas.get(kind)
        if found is None:
            continue
        if not isinstance(found, dict):
            yield f"Schema {kind} must be a hash, but has value {inspected(found)}"
            continue
        for verb in (verb for one, verb in PLACES if one == kind):
            yield from _of_verb(f"{kind}.{verb}", found.get(verb))


def _of_verb(path: str, found: Any) -> Iterator[str]:
    if found is None:
        return
    if not isinstance(found, dict):
        yield f"Schema {path} must be a hash, but has value {inspected(found)}"
        return
    parameters = found.get("parameters")
    if parameters is None:
        return
    if not isinstance(parameters, dict):
        yield f"Schema {path}.parameters must be a hash, but has value {inspected(parameters)}"
        return
    for problem in _of_parameters(parameters):
        yield f"Schema {path}.parameters is not valid. {problem}"


def _of_parameters(schema: dict[str, Any]) -> Iterator[str]:
    if len(msgspec.json.encode(schema)) > _MAX_BYTES:
        yield "Must not be larger than 64KB"
        return
    if "$schema" not in schema:
        yield "Schema must have $schema key but was not present"
        return
    if _depth(schema) > _MAX_DEPTH:
        yield f"Must not be nested deeper than {_MAX_DEPTH} levels"
        return
    from jsonschema import Draft4Validator
    from jsonschema.exceptions import best_match
    from referencing import Registry

    declared = schema["$schema"]
    if not isinstance(declared, str) or declared.rstrip("#") not in _KNOWN:
        yield "Custom meta schemas are not supported."
        return
    complaint = best_match(Draft4Validator(Draft4Validator.META_SCHEMA, registry=Registry()).iter_errors(schema))
    if complaint is not None:
        yield f"Must conform to JSON Schema Draft 04 (experimental support for later versions): {_told(complaint)}"
        return
    outside = next((one for one in _references(schema) if not one.startswith("#")), None)
    if outside is not None:
        yield f"No external references are allowed: {outside}"


def _depth(value: Any) -> int:
    deepest, level = 0, [value]
    while level:
        deepest += 1
        level = [
            inner
            for one in level
            if isinstance(one, (dict, list))
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
    return deepest


def _told(complaint: "ValidationError") -> str:
    where = "/".join(str(part) for part in complaint.absolute_path)
    return f"The property '#/{where}' is wrong: {complaint.message[:500]}"


def _references(schema: Any) -> Iterator[str]:
    """What the `$ref`s say that are references, and not the name of a property."""
    if isinstance(schema, list):
        for one in schema:
            yield from _references(one)
    elif isinstance(schema, dict):
        for key, one in schema.items():
            if key == "$ref" and isinstance(one, str):
                yield one
            yield from _references(one)


def parameters_problems(schema: dict[str, Any], value: Any) -> list[str]:
    """What of `value` a schema does not allow; a schema that cannot be used allows everything."""
    from jsonschema import Draft4Validator
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    if _depth(schema) > _MAX_DEPTH or any(not one.startswith("#") for one in _references(schema)):
        return []
    kind = validator_for(schema, default=Draft4Validator)
    try:
        kind.check_schema(schema)
        found: Iterable[Any] = list(kind(schema, registry=Registry()).iter_errors(value))
    except (SchemaError, Unresolvable, RecursionError, ValueError, TypeError, re.error):
        # The rest are what the library lets through of references and patterns that lead nowhere.
        return []
    return [f"{'.'.join(str(part) for part in one.absolute_path) or 'properties'}: {one.message}" for one in found]
