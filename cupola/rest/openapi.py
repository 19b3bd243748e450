"""The API's description: an OpenAPI 3.1 document made from the same declarations that serve the requests.

Nothing is written twice: paths and parameters come from operations and their lists, request bodies from messages,
answers from the TypedDicts of resources. The document is valid by the schema of the OpenAPI Initiative.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict

import msgspec

import cupola
from cupola.config import Settings
from cupola.rest import listing
from cupola.rest.operation import Operation, Parameter
from cupola.rest.present import Link
from cupola.rest.query import OPERATORS
from cupola.rest.resource import Fields, Filter, Resource
from cupola.roles import READ_SCOPES, WRITE_SCOPES

__all__ = ["document", "operation_id"]

Schema = dict[str, Any]

_REF = "#/components/schemas/{name}"
_DESCRIPTION = (
    "The Cloud Foundry V3 API. Every GET answers HEAD as well. Lists are cut into pages; their parameters take comma "
    "lists, and a comma within a value is written `%252C`. Work that takes long is answered with 202 and the Location "
    "of a job, which is polled until its state is COMPLETE or FAILED."
)
_TIMES = "Times as `YYYY-MM-DDThh:mm:ssZ`"
_OPERATOR_WORDS = {"lt": "before", "lte": "at or before", "gt": "after", "gte": "at or after"}


class Error(TypedDict):
    """One problem: `code` and `title` say which, `detail` says it to a person."""

    code: int
    title: str
    detail: str


class Errors(TypedDict):
    """The body of every answer that is not a success."""

    errors: list[Error]


class Pagination(TypedDict):
    """Where a page is in its list. `next` and `previous` are null at the ends."""

    total_results: int
    total_pages: int
    first: Link
    last: Link
    next: Link | None
    previous: Link | None


_ERRORS = {
    400: "The body or the query string cannot be read, or a parameter is unknown or wrong.",
    401: "There is no bearer token, or it is not valid.",
    403: "The caller may see this but not do it, or the token has none of the scopes.",
    404: "There is no such resource, or the caller may not see it.",
    413: "The body is larger than is accepted.",
    422: "The body can be read but what it asks for is not possible; the detail names every problem.",
    500: "The platform failed; its log has more under the request id.",
    503: "The platform cannot do this just now; try again after `Retry-After` seconds.",
}


def document(operations: Sequence[Operation], settings: Settings) -> dict[str, Any]:
    """An OpenAPI 3.1 document, JSON-encodable, that describes every operation once. Its server is `api_url`."""
    shapes = _Shapes(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation, shapes)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"{settings.platform.name} V3 API",
            "version": cupola.__version__,
            "description": _DESCRIPTION,
        },
        "servers": [{"url": settings.api_url}],
        "tags": [{"name": name} for name in sorted({_tag(operation.path) for operation in operations})],
        "paths": {path: paths[path] for path in sorted(paths)},
        "components": {
            "schemas": shapes.components,
            "responses": dict(_error_responses()),
            "headers": _HEADERS,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": f"An access token of {settings.uaa_url}/oauth/token.",
                }
            },
        },
    }


def operation_id(operation: Operation) -> str:
    """A name made from method and path, and so unique: `list_apps`, `patch_apps_by_guid`."""
    verb = "list" if operation.listing is not None else operation.method.lower()
    parts = [part for part in operation.path.split("/") if part]
    if len(parts) > 1 and parts[0] == "v3":
        parts = parts[1:]
    named = (f"by_{part[1:-1]}" if part.startswith("{") else part for part in parts)
    return "_".join([verb, *(re.sub(r"\W", "_", part) for part in named)] if parts else [verb, "root"])


class _Shapes:
    """JSON schemas of all TypedDicts of the API, under component names; types of one name are told apart."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        kinds: list[Any] = [Errors, Pagination]
        for operation in operations:
            kind = _shape(operation)
            if kind is not None and kind not in kinds:
                kinds.append(kind)
        schemas, self.components = msgspec.json.schema_components(kinds, ref_template=_REF)
        self._schemas = list(zip(kinds, schemas, strict=True))

    def of(self, kind: Any) -> Schema:
        """A reference to the schema of `kind`; any object where nothing was declared."""
        if kind is None:
            return {"type": "object"}
        return next(dict(schema) for known, schema in self._schemas if known is kind or known == kind)


def _shape(operation: Operation) -> Any:
    if operation.shape is not None:
        return operation.shape
    resource = _resource(operation)
    return None if resource is None else resource.shape


def _resource(operation: Operation) -> Resource | None:
    if operation.listing is not None:
        return operation.listing.resource
    return operation.returns or operation.target


def _described(operation: Operation, shapes: _Shapes) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation_id(operation),
        "tags": [_tag(operation.path)],
        "summary": operation.description or f"{operation.method} {operation.path}",
        "security": _security(operation),
        "parameters": [*_path_parameters(operation), *_query_parameters(operation)],
        "responses": _responses(operation, shapes),
    }
    body = _request_body(operation)
    if body is not None:
        described["requestBody"] = body
    if operation.deprecated:
        described["deprecated"] = True
    return described


def _tag(path: str) -> str:
    parts = [part for part in path.split("/") if part and part != "v3"]
    return parts[0] if parts else "root"


def _security(operation: Operation) -> list[dict[str, list[str]]]:
    """One alternative for each scope, as any of them is enough."""
    if operation.auth == "none":
        return []
    scopes = operation.scopes
    if scopes is None:
        scopes = READ_SCOPES if operation.method == "GET" else WRITE_SCOPES
    alternatives = [{"bearer": [scope]} for scope in sorted(scopes)]
    return [{}, *alternatives] if operation.auth == "optional" else alternatives


def _path_parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"\{(\w+)\}", operation.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _query_parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    if operation.listing is not None:
        yield from _list_parameters(operation)
        return
    for parameter in operation.query:
        yield from _own_parameter(parameter)
    if operation.includes:
        yield _include(operation.includes)
    yield from _fields(operation.fields)


def _own_parameter(parameter: Parameter) -> Iterator[dict[str, Any]]:
    general = list(_general(parameter.name, ()))
    if general and not (parameter.doc or parameter.values or parameter.required):
        yield from general
        return
    schema: Schema = {"type": "string"}
    if parameter.values:
        schema["enum"] = list(parameter.values)
    described = _parameter(parameter.name, schema, parameter.doc)
    yield {**described, "required": True} if parameter.required else described


def _list_parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    assert operation.listing is not None
    resource = operation.listing.resource
    filters = {filter_.name: filter_ for filter_ in resource.filters}
    for name in listing.parameters(operation.listing):
        if name in filters:
            yield from _filter(filters[name])
        elif name.endswith("[not]"):
            yield _comma_list(
                name, {"type": "string"}, f"Leave out these {name.removesuffix('[not]').replace('_', ' ')}."
            )
        elif name == "include":
            yield _include([include.name for include in resource.includes])
        elif name == "fields":
            yield from _fields(resource.fields)
        elif name == "embed":
            names = [embed.name for embed in resource.embeds]
            yield _comma_list(name, {"type": "string", "enum": names}, "What to add to each resource.")
        elif name in resource.timestamps:
            yield from _timestamps(name)
        else:
            yield from _general(name, operation.listing.order_by or resource.order_by)


def _general(name: str, order_by: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The parameters that mean the same in every list."""
    if name == "page":
        yield _parameter(name, {"type": "integer", "minimum": 1, "default": 1}, "Number of the page, from 1.")
    elif name == "per_page":
        limits = {"type": "integer", "minimum": 1, "maximum": 5000, "default": 50}
        yield _parameter(name, limits, "Resources on a page.")
    elif name == "order_by":
        schema: Schema = {"type": "string"}
        if order_by:
            schema["enum"] = [sign + column for column in order_by for sign in ("", "-", "+")]
        yield _parameter(name, schema, "What the list is sorted by; `-` turns the order round.")
    elif name == "guids":
        yield _comma_list(name, {"type": "string"}, "Only the resources with these guids.")
    elif name == "label_selector":
        text = (
            "Requirements on labels, all of which must hold: `key`, `!key`, `key=value`, `key!=value`, "
            "`key in (a,b)`, `key notin (a,b)`; at most 50, separated by commas."
        )
        yield _parameter(name, {"type": "string"}, text)
    elif name in {"created_ats", "updated_ats"}:
        yield from _timestamps(name)


def _timestamps(name: str) -> Iterator[dict[str, Any]]:
    what = name.removesuffix("s")
    yield _comma_list(name, {"type": "string", "format": "date-time"}, f"{_TIMES}: `{what}` is one of them.")
    for operator in OPERATORS:
        text = f"A time as `YYYY-MM-DDThh:mm:ssZ`: `{what}` is {_OPERATOR_WORDS[operator]} it."
        yield _parameter(f"{name}[{operator}]", {"type": "string", "format": "date-time"}, text)


def _filter(filter_: Filter) -> Iterator[dict[str, Any]]:
    value: Schema = {"type": "string"}
    if filter_.choices:
        value["enum"] = list(filter_.choices)
    noun = filter_.name.replace("_", " ")
    if filter_.kind == "bool":
        yield _parameter(filter_.name, {"type": "boolean"}, filter_.doc or f"Filter by {noun}.")
    elif filter_.kind == "one":
        yield _parameter(filter_.name, value, filter_.doc or f"Filter by {noun}.")
    else:
        yield _comma_list(filter_.name, value, filter_.doc or f"Filter by {noun}: any of these.")


def _include(names: Sequence[str]) -> dict[str, Any]:
    return _comma_list(
        "include", {"type": "string", "enum": list(dict.fromkeys(names))}, "Related resources to add under `included`."
    )


def _fields(declared: Sequence[Fields]) -> Iterator[dict[str, Any]]:
    for one in declared:
        keys = {"type": "string", "enum": list(one.keys)}
        what = one.name.rpartition(".")[2].replace("_", " ")
        yield _comma_list(f"fields[{one.name}]", keys, f"Keys of the {what} to add under `included`.")


def _parameter(name: str, schema: Schema, text: str) -> dict[str, Any]:
    described: dict[str, Any] = {"name": name, "in": "query", "schema": schema}
    return {**described, "description": text} if text else described


def _comma_list(name: str, item: Schema, text: str) -> dict[str, Any]:
    return {**_parameter(name, {"type": "array", "items": item}, text), "style": "form", "explode": False}


def _request_body(operation: Operation) -> dict[str, Any] | None:
    if operation.consumes == "multipart/form-data":
        bits = {"type": "string", "contentMediaType": "application/octet-stream"}
        schema: Schema = {"type": "object", "properties": {"bits": bits}, "additionalProperties": True}
        return {"required": True, "content": {operation.consumes: {"schema": schema}}}
    if operation.consumes != "application/json":
        return {"required": True, "content": {operation.consumes: {"schema": {"type": "object"}}}}
    schemas = [kind.schema() for kind in operation.bodies or filter(None, [operation.body])]
    if not schemas:
        return None
    required = all(one.get("required") for one in schemas)
    schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    return {"required": required, "content": {"application/json": {"schema": schema}}}


_HEADERS: dict[str, Any] = {
    "RequestId": {
        "description": "The id under which the platform's log knows this request.",
        "schema": {"type": "string"},
    },
    "Warnings": {
        "description": "Warnings for the person who asked: percent-encoded sentences, separated by commas.",
        "schema": {"type": "string"},
    },
    "Job": {"description": "URL of the job that does the work.", "schema": {"type": "string", "format": "uri"}},
    "RetryAfter": {"description": "Seconds to wait before trying again.", "schema": {"type": "integer"}},
}
_ALWAYS = {
    "X-VCAP-Request-ID": {"$ref": "#/components/headers/RequestId"},
    "X-Cf-Warnings": {"$ref": "#/components/headers/Warnings"},
}


def _responses(operation: Operation, shapes: _Shapes) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    if operation.job:
        headers = {**_ALWAYS, "Location": {"$ref": "#/components/headers/Job"}}
        responses["202"] = {"description": "Accepted: a job does it.", "headers": headers}
        if operation.consumes == "multipart/form-data":
            # Uploads show what they were given to at once; their job has ended already.
            responses["202"]["content"] = _success(operation, shapes)["content"]
    if not operation.job or operation.status != 202:
        responses[str(operation.status)] = _success(operation, shapes)
    for status in sorted(_possible_errors(operation)):
        responses[str(status)] = {"$ref": f"#/components/responses/Error{status}"}
    return responses


def _success(operation: Operation, shapes: _Shapes) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": _success_words(operation.status), "headers": _ALWAYS}
    if operation.status == 204 or not operation.produces:
        return answer
    if operation.listing is not None:
        schema = _page(operation, shapes)
    elif operation.produces != "application/json":
        schema = {"type": "string"}
        if not operation.produces.startswith("text/"):
            schema["contentMediaType"] = operation.produces
    else:
        schema = shapes.of(_shape(operation) if _answers_with_shape(operation) else None)
        if operation.includes or operation.fields:
            included = _included(operation, operation.includes or (), operation.fields)
            schema = {"allOf": [schema, {"type": "object", "properties": included}]}
    answer["content"] = {operation.produces: {"schema": schema}}
    return answer


def _answers_with_shape(operation: Operation) -> bool:
    """Whether the answer is the resource: what works on a target without saying what it returns answers freely."""
    return (
        operation.shape is not None
        or operation.returns is not None
        or operation.stream is not None
        or operation.path.endswith("/{" + operation.target_parameter + "}")
    )


def _page(operation: Operation, shapes: _Shapes) -> Schema:
    assert operation.listing is not None
    properties: Mapping[str, Any] = {
        "pagination": shapes.of(Pagination),
        "resources": {"type": "array", "items": shapes.of(_shape(operation))},
    }
    resource = operation.listing.resource
    if operation.listing.includes and (resource.includes or resource.fields):
        names = [include.name for include in resource.includes]
        properties = {**properties, **_included(operation, names, resource.fields)}
    return {"type": "object", "properties": properties, "required": ["pagination", "resources"]}


def _included(operation: Operation, names: Sequence[str], fields: Sequence[Fields]) -> Schema:
    resource = _resource(operation)
    assert resource is not None
    keys = dict.fromkeys(include.key for include in resource.includes if include.name in names)
    keys |= dict.fromkeys(one.key for one in fields)
    lists = {key: {"type": "array", "items": {"type": "object"}} for key in keys}
    return {"included": {"type": "object", "properties": lists}}


def _success_words(status: int) -> str:
    return {201: "Created.", 202: "Accepted.", 204: "Done; there is nothing to show."}.get(status, "Success.")


def _possible_errors(operation: Operation) -> set[int]:
    errors = {500, 503}
    if operation.auth != "none":
        errors |= {401, 403}
    if operation.target is not None or "{" in operation.path:
        errors.add(404)
    if operation.listing is not None or operation.query or operation.includes or operation.fields:
        errors.add(operation.query_status or 400)
    if operation.method in {"POST", "PATCH", "PUT"}:
        errors |= {400, 413, 422}
    elif operation.method == "DELETE":
        errors.add(422)
    return errors


def _error_responses() -> Iterator[tuple[str, dict[str, Any]]]:
    content = {"application/json": {"schema": {"$ref": _REF.format(name="Errors")}}}
    for status, text in _ERRORS.items():
        headers = {"X-VCAP-Request-ID": _ALWAYS["X-VCAP-Request-ID"]}
        if status == 503:
            headers["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
        yield f"Error{status}", {"description": text, "headers": headers, "content": content}
