"""A broker made with openbrokerapi, which nobody here wrote: synchronous, or one that takes its time."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask
from openbrokerapi import api, errors
from openbrokerapi.catalog import Schemas, ServicePlan, ServicePlanCost, ServicePlanMetadata
from openbrokerapi.service_broker import (
    Binding,
    BindState,
    DeprovisionServiceSpec,
    GetBindingSpec,
    GetInstanceDetailsSpec,
    LastOperation,
    OperationState,
    ProvisionedServiceSpec,
    ProvisionState,
    Service,
    ServiceBroker,
    UnbindSpec,
    UpdateServiceSpec,
)
from werkzeug.serving import WSGIRequestHandler, make_server

__all__ = ["LibraryBroker", "library"]

POLLS = 2
"""How often an operation is asked for until it is done."""


class LibraryBroker(ServiceBroker):  # type: ignore[misc]  # the library has no types
    """Instances with parameters, bindings with a password; `slow`: everything is asynchronous."""

    def __init__(self, *, slow: bool) -> None:
        self.slow = slow
        self.url = ""
        self.instances: dict[str, dict[str, Any]] = {}
        self.bindings: dict[str, Any] = {}
        self.identities: list[Any] = []
        self._polls: dict[str, int] = {}

    def body(self, name: str = "library", **more: Any) -> dict[str, Any]:
        """What registers it."""
        credentials = {"username": "library", "password": "library-secret"}
        return {"name": name, "url": self.url, "authentication": {"type": "basic", "credentials": credentials}, **more}

    def catalog(self) -> Any:
        schema = {"$schema": "http://json-schema.org/draft-04/schema#", "type": "object"}
        cost = ServicePlanCost({"usd": 5.5}, "MONTHLY")
        return Service(
            id="library-id",
            name="library",
            description="Made with openbrokerapi",
            bindable=True,
            plan_updateable=True,
            instances_retrievable=True,
            bindings_retrievable=True,
            plans=[
                ServicePlan("one-id", "one", "The first", free=True),
                ServicePlan(
                    "two-id",
                    "two",
                    "The second",
                    metadata=ServicePlanMetadata(costs=[cost]),
                    free=False,
                    schemas=Schemas(service_instance={"create": {"parameters": schema}}),
                ),
            ],
        )

    def _begin(self, what: str) -> str | None:
        if not self.slow:
            return None
        self._polls[what] = 0
        return what

    def provision(self, instance_id: str, details: Any, async_allowed: bool, **more: Any) -> Any:
        self.identities.append(details.originating_identity)
        if self.slow and not async_allowed:
            raise errors.ErrAsyncRequired
        if (details.parameters or {}).get("bad"):
            raise errors.ErrInvalidParameters("bad is not good")
        if instance_id in self.instances:
            raise errors.ErrInstanceAlreadyExists
        self.instances[instance_id] = {"plan": details.plan_id, "parameters": details.parameters or {}}
        state = ProvisionState.IS_ASYNC if self.slow else ProvisionState.SUCCESSFUL_CREATED
        return ProvisionedServiceSpec(state, "http://dashboard.example", self._begin("provision"))

    def update(self, instance_id: str, details: Any, async_allowed: bool, **more: Any) -> Any:
        instance = self.instances[instance_id]
        instance["plan"] = details.plan_id or instance["plan"]
        instance["parameters"] |= details.parameters or {}
        return UpdateServiceSpec(self.slow, self._begin("update"))

    def deprovision(self, instance_id: str, details: Any, async_allowed: bool, **more: Any) -> Any:
        if self.instances.pop(instance_id, None) is None:
            raise errors.ErrInstanceDoesNotExist
        return DeprovisionServiceSpec(self.slow, self._begin("deprovision"))

    def bind(self, instance_id: str, binding_id: str, details: Any, async_allowed: bool, **more: Any) -> Any:
        app = details.bind_resource.app_guid if details.bind_resource else None
        self.bindings[binding_id] = {"password": f"password of {instance_id}", "app": app}
        if self.slow:
            return Binding(BindState.IS_ASYNC, operation=self._begin("bind"))
        return Binding(BindState.SUCCESSFUL_BOUND, credentials=self.bindings[binding_id])

    def unbind(self, instance_id: str, binding_id: str, details: Any, async_allowed: bool, **more: Any) -> Any:
        if self.bindings.pop(binding_id, None) is None:
            raise errors.ErrBindingDoesNotExist
        return UnbindSpec(self.slow, self._begin("unbind"))

    def get_instance(self, instance_id: str, **more: Any) -> Any:
        instance = self.instances[instance_id]
        return GetInstanceDetailsSpec(
            "library-id", instance["plan"], "http://dashboard.example", instance["parameters"]
        )

    def get_binding(self, instance_id: str, binding_id: str, **more: Any) -> Any:
        return GetBindingSpec(credentials=self.bindings[binding_id])

    def last_operation(self, instance_id: str, operation_data: str, **more: Any) -> Any:
        self._polls[operation_data] += 1
        if self._polls[operation_data] < POLLS:
            return LastOperation(OperationState.IN_PROGRESS, "half of it")
        return LastOperation(OperationState.SUCCEEDED, "all of it")

    def last_binding_operation(self, instance_id: str, binding_id: str, operation_data: str, **more: Any) -> Any:
        return self.last_operation(instance_id, operation_data)


class _Silent(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        return None


@contextmanager
def library(*, slow: bool) -> Iterator[LibraryBroker]:
    """Run it in a thread."""
    broker = LibraryBroker(slow=slow)
    logger = logging.getLogger("openbrokerapi")
    logger.disabled = True
    app = Flask(__name__)
    credentials = api.BrokerCredentials("library", "library-secret")
    app.register_blueprint(api.get_blueprint(broker, credentials, logger))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Silent)
    broker.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield broker
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
