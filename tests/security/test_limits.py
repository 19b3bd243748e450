"""What is too large is refused by every face of the controller, before it is held in memory."""

import pytest

from cupola.rest.dispatch import MAX_BODY
from tests.security.conftest import Serve


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v3/apps", {413}),
        ("/v3/spaces/x/actions/apply_manifest", {413}),
        ("/networking/v1/external/policies", {400}),
    ],
)
def test_a_body_that_is_too_large_is_refused(serve: Serve, path: str, expected: set[int]) -> None:
    front = serve()
    client = front.client("cloud_controller.admin", "network.admin")
    headers = {"Content-Type": "application/json"}
    answer = client.request("POST", path, content=b"x" * (MAX_BODY + 1), headers=headers)
    assert answer.status_code in expected, answer.text
    # One that is not is judged by what is in it.
    assert client.request("POST", path, content=b"x", headers=headers).status_code not in {413, 500}
