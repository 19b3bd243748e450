"""Chunked bodies, however the bytes are cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.router.framing import ChunkedReader, chunk, last_chunk
from cupola.router.heads import Malformed

REST = b"GET / HTTP/1.1\r\n"


@given(
    pieces=st.lists(st.binary(min_size=1, max_size=40), max_size=8),
    extension=st.sampled_from([b"", b";a", b' ; a="b c"']),
    cuts=st.lists(st.integers(0, 500), max_size=8),
)
def test_any_cut_gives_the_same(pieces: list[bytes], extension: bytes, cuts: list[int]) -> None:
    sent = b"".join(b"%X%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces)
    sent += last_chunk([b"X-A: 1", b"Content-Length: 9"]) + REST
    places = sorted({min(cut, len(sent)) for cut in cuts} | {0, len(sent)})
    reader = ChunkedReader()
    got, rest = b"", b""
    for start, stop in itertools.pairwise(places):
        if reader.done:
            rest += sent[start:stop]
            continue
        got += reader.feed(sent[start:stop])
        rest = reader.rest
    assert (got, rest, reader.trailers) == (b"".join(pieces), REST, [b"X-A: 1"])


@given(body=st.binary(min_size=1, max_size=200))
def test_what_is_written_is_read(body: bytes) -> None:
    reader = ChunkedReader()
    assert reader.feed(chunk(body) + last_chunk([])) == body
    assert reader.done


@given(noise=st.binary(min_size=1, max_size=60))
def test_nonsense_never_becomes_content_silently(noise: bytes) -> None:
    reader = ChunkedReader()
    try:
        content = reader.feed(noise)
    except Malformed:
        return
    line, _, after = noise.partition(b"\r\n")
    if content:
        size = int(line.partition(b";")[0].strip(), 16)
        assert after[:size].startswith(content[:size])


def test_extensions_are_limited_over_the_whole_body() -> None:
    reader = ChunkedReader()
    piece = b"1;" + b"x" * 1000 + b"\r\na\r\n"
    for _ in range(60):
        assert reader.feed(piece) == b"a"
    with pytest.raises(Malformed, match="too many chunk extensions"):
        reader.feed(piece * 10)
