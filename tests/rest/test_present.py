"""What the JSON of resources begins and ends with."""

import msgspec

from cupola.rest.present import LinkTemplate, to_many, to_one

LINKS = LinkTemplate({"self": "/v3/apps/{0}", "space": "/v3/spaces/{1}", "start": ("/v3/apps/{0}/start", "POST")})


def decoded(api: str, *values: str) -> object:
    return msgspec.json.decode(msgspec.json.encode({"links": LINKS.of(api, *values)}))["links"]


def test_links_as_text_are_the_links_as_objects() -> None:
    expected = {
        "self": {"href": "http://api/v3/apps/a"},
        "space": {"href": "http://api/v3/spaces/s"},
        "start": {"href": "http://api/v3/apps/a/start", "method": "POST"},
    }
    assert decoded("http://api", "a", "s") == expected
    assert decoded("http://api", "b", "s") != expected
    assert decoded("http://api", "a", "s") == expected


def test_each_address_has_links_of_its_own() -> None:
    assert str(decoded("https://one", "a", "s")).count("https://one") == 3
    assert str(decoded("https://two", "a", "s")).count("https://two") == 3


def test_relationships() -> None:
    assert to_one("g") == {"data": {"guid": "g"}}
    assert to_one(None) == {"data": None}
    assert to_many(["a", "b"]) == {"data": [{"guid": "a"}, {"guid": "b"}]}
