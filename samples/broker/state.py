"""Everything that the broker remembers: in memory, and in a file where one is named."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

EMPTY: dict[str, Any] = {"instances": {}, "bindings": {}, "backups": {}, "operations": {}, "definitions": {}}


class State:
    """A document that one request at a time changes.

    instances    guid to {plan_id, parameters, notes, request}
    bindings     guid to {instance, username, password, request}
    backups      guid of an instance to [{id, created_at, notes}], oldest first
    operations   name to {done_at, instance}: an operation is done once its time has come
    definitions  plan id to the definition of a plan
    """

    def __init__(self, file: Path | None = None, *, slow_seconds: float = 2.0) -> None:
        self.slow_seconds = slow_seconds
        self._file = file
        self._lock = threading.RLock()
        self._document = json.loads(file.read_text()) if file and file.exists() else json.loads(json.dumps(EMPTY))

    @contextmanager
    def open(self) -> Iterator[dict[str, Any]]:
        """The document, for reading and changing; kept at the end of the block unless it raises."""
        with self._lock:
            before = json.dumps(self._document)
            try:
                yield self._document
            except BaseException:
                self._document = json.loads(before)
                raise
            if self._file is not None and json.dumps(self._document) != before:
                new = self._file.with_suffix(".new")
                new.write_text(json.dumps(self._document))
                new.replace(self._file)

    def begin(self, document: dict[str, Any], instance: str) -> str:
        """An operation that takes its time. Its name is what the platform asks for later."""
        name = f"operation-{len(document['operations']) + 1}"
        document["operations"][name] = {"instance": instance, "done_at": time.time() + self.slow_seconds}
        return name

    def is_done(self, document: dict[str, Any], name: str) -> bool:
        """Whether an operation is done; raises KeyError for one that never was."""
        return bool(time.time() >= document["operations"][name]["done_at"])
