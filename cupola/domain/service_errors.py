"""Errors of services that clients tell by their code (contract errors.json); everything else there is a plain 422."""

from cupola.errors import CloudError

__all__ = [
    "already_bound_to_route",
    "binding_busy",
    "busy",
    "invalid_relation",
    "job_timeout",
    "no_binding_parameters",
    "no_instance_parameters",
    "no_such_instance",
    "not_found_with",
    "recursive_delete_failed",
    "space_deletion_failed",
    "unable_to_perform",
    "unshare_failed",
]


def invalid_relation(detail: str) -> CloudError:
    return CloudError(1002, "CF-InvalidRelation", 400, detail)


def unable_to_perform(verb: str, why: str) -> CloudError:
    """What a job whose broker did not do it ends with; `verb` is provision, bind and so on."""
    return CloudError(10009, "CF-UnableToPerform", 400, f"{verb} could not be completed: {why}")


def not_found_with(detail: str) -> CloudError:
    """404 with a whole sentence in place of `... not found`."""
    return CloudError(10010, "CF-ResourceNotFound", 404, detail)


def no_such_instance(name: str) -> CloudError:
    """An instance that was never made is as good as none; `name` is its own."""
    return CloudError(60004, "CF-ServiceInstanceNotFound", 404, f"The service instance could not be found: {name}")


def busy(name: str) -> CloudError:
    return CloudError(
        60016,
        "CF-AsyncServiceInstanceOperationInProgress",
        409,
        f"An operation for service instance {name} is in progress.",
    )


def recursive_delete_failed(name: str, causes: str) -> CloudError:
    return CloudError(
        60027,
        "CF-ServiceInstanceRecursiveDeleteFailed",
        502,
        f"Deletion of service instance {name} failed because one or more associated resources could not be deleted.\n\n"
        f"{causes}",
    )


def binding_busy(app: str, instance: str) -> CloudError:
    return CloudError(
        90008,
        "CF-AsyncServiceBindingOperationInProgress",
        409,
        f"An operation for the service binding between app {app} and service instance {instance} is in progress.",
    )


def no_binding_parameters() -> CloudError:
    return CloudError(
        90007,
        "CF-ServiceFetchBindingParametersNotSupported",
        400,
        "This service does not support fetching service binding parameters.",
    )


def no_instance_parameters() -> CloudError:
    return CloudError(
        120004,
        "CF-ServiceFetchInstanceParametersNotSupported",
        400,
        "This service does not support fetching service instance parameters.",
    )


def already_bound_to_route() -> CloudError:
    return CloudError(
        130008,
        "CF-ServiceInstanceAlreadyBoundToSameRoute",
        422,
        "The route and service instance are already bound.",
    )


def job_timeout() -> CloudError:
    return CloudError(290006, "CF-JobTimeout", 524, "The job execution has timed out.")


def space_deletion_failed(name: str, causes: str) -> CloudError:
    return CloudError(
        290008,
        "CF-SpaceDeletionFailed",
        502,
        f"Deletion of space {name} failed because one or more resources within could not be deleted.\n\n{causes}",
    )


def unshare_failed(causes: str) -> CloudError:
    return CloudError(
        390001, "CF-ServiceInstanceUnshareFailed", 502, f"Unshare of service instance failed: \n\n{causes}"
    )
