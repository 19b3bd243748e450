"""Labels and annotations: their rules, how they are merged into a row, and the index that selectors search.

Rules and words: reference/behaviours.md section 3.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from sqlalchemy import delete, insert

from cupola.errors import CloudError
from cupola.store.database import Tx
from cupola.store.schema import label_index

__all__ = ["MAX_ANNOTATIONS", "MAX_LABELS", "forget", "key_problems", "merged", "problems", "reindex", "value_problems"]

MAX_LABELS = 50
MAX_ANNOTATIONS = 200
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?", re.ASCII)
_CHARACTERS = re.compile(r"[A-Za-z0-9_.-]*", re.ASCII)
_DNS = re.compile(
    r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", re.ASCII | re.IGNORECASE
)


def problems(value: Any) -> Iterator[str]:
    """Everything wrong with a body's `metadata`."""
    if not isinstance(value, dict):
        yield "Metadata must be an object"
        return
    unknown = [key for key in value if key not in {"labels", "annotations"}]
    if unknown:
        yield "Metadata has unexpected field(s): " + ", ".join(f"'{key}'" for key in unknown)
    labels = value.get("labels")
    if labels is not None and not isinstance(labels, dict):
        yield "Metadata 'labels' is not an object"
    else:
        yield from _label_problems(labels or {})
    annotations = value.get("annotations")
    if annotations is not None and not isinstance(annotations, dict):
        yield "Metadata 'annotations' is not an object"
    else:
        yield from _annotation_problems(annotations or {})


def _label_problems(labels: Mapping[str, Any]) -> Iterator[str]:
    for key, value in labels.items():
        for problem in key_problems(key):
            yield f"Metadata label key error: {problem}"
        if value is not None:
            for problem in value_problems(value):
                yield f"Metadata label value error: {problem}"


def _annotation_problems(annotations: Mapping[str, Any]) -> Iterator[str]:
    for key, value in annotations.items():
        if value is None:
            continue
        for problem in key_problems(key):
            yield f"Metadata annotation key error: {problem}"
        if not isinstance(value, str):
            yield f"Metadata annotation value error: '{value}' is not a string"
        elif len(value) > 5000:
            yield f"Metadata annotation value error: '{value[:8]}...' is greater than 5000 characters"


def key_problems(key: str) -> Iterator[str]:
    """What is wrong with a key, prefix included."""
    if key.count("/") > 1:
        yield "key has more than one '/'"
        return
    prefix, slash, name = key.rpartition("/")
    if slash:
        if not prefix or len(prefix) > 253 or not _DNS.fullmatch(prefix) or "." not in prefix:
            yield f"prefix '{_shown(prefix)}' must be in valid dns format"
        elif prefix.lower() == "cloudfoundry.org":
            yield "prefix 'cloudfoundry.org' is reserved"
    if not name:
        yield "key cannot be empty string"
    else:
        yield from _name_problems(name)


def value_problems(value: Any) -> Iterator[str]:
    """What is wrong with a label's value."""
    if not isinstance(value, str):
        yield f"'{value}' is not a string"
    elif value:
        yield from _name_problems(value)


def _name_problems(name: str) -> Iterator[str]:
    if not _CHARACTERS.fullmatch(name):
        yield f"'{_shown(name)}' contains invalid characters"
    elif not _NAME.fullmatch(name):
        yield f"'{_shown(name)}' starts or ends with invalid characters"
    if len(name) > 63:
        yield f"'{name[:8]}...' is greater than 63 characters"


def _shown(text: str) -> str:
    return text if len(text) <= 63 else f"{text[:8]}..."


def merged(
    given: Mapping[str, Any] | None, labels: str = "{}", annotations: str = "{}"
) -> tuple[dict[str, str], dict[str, str]]:
    """Labels and annotations after a body's `metadata` is applied: null deletes, unnamed keys stay.

    Raises 422 when there would be more than 50 labels or 200 annotations (errors.json 390020, 390023).
    """
    given = given or {}
    result_labels = _apply(msgspec.json.decode(labels), given.get("labels") or {})
    result_annotations = _apply(msgspec.json.decode(annotations), given.get("annotations") or {})
    if len(result_labels) > MAX_LABELS:
        raise _too_many(390020, "CF-LabelLimitExceeded", "labels", len(given["labels"]), MAX_LABELS)
    if len(result_annotations) > MAX_ANNOTATIONS:
        raise _too_many(390023, "CF-AnnotationLimitExceeded", "annotations", len(given["annotations"]), MAX_ANNOTATIONS)
    return result_labels, result_annotations


def _apply(now: dict[str, str], change: Mapping[str, str | None]) -> dict[str, str]:
    for key, value in change.items():
        if value is None:
            now.pop(key, None)
        else:
            now[key] = value
    return now


def _too_many(code: int, title: str, what: str, added: int, maximum: int) -> CloudError:
    return CloudError(code, title, 422, f"Failed to add {added} {what} because it would exceed maximum of {maximum}")


def reindex(tx: Tx, resource_type: str, guid: str, labels: Mapping[str, str]) -> None:
    """Make the selector index of one resource equal to its labels."""
    forget(tx, resource_type, [guid])
    if labels:
        rows = [
            {"resource_type": resource_type, "resource_guid": guid, "key": key, "value": value}
            for key, value in labels.items()
        ]
        tx.run(insert(label_index), rows)


def forget(tx: Tx, resource_type: str, guids: Iterable[str]) -> None:
    """Drop the index entries of deleted resources."""
    tx.run(
        delete(label_index).where(
            label_index.c.resource_type == resource_type, label_index.c.resource_guid.in_(list(guids))
        )
    )
