"""Lines of the controller itself."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cupola.config import Logs
from cupola.logs.ring import Ring
from cupola.logs.writer import MAX_LINE, AppLog, split_lines


def test_a_line_is_written_as_the_api_writes_it(tmp_path: Path) -> None:
    ring = Ring(tmp_path, Logs())
    AppLog(ring).line("guid", "API", "0", "Updated app with guid guid\n\nsecond", tags={"space_name": "dev"})
    AppLog(ring).line("guid", "LGR", "0", "", "ERR")
    first, second = ring.query("guid")
    assert (first.payload, second.payload) == (b"Updated app with guid guid", b"second")
    assert first.tags["source_type"] == "API"
    assert first.tags["space_name"] == "dev"
    assert (first.instance_id, first.stream) == ("0", "OUT")
    assert second.timestamp > first.timestamp


@given(st.text(alphabet=st.sampled_from("aü€😀\n\r"), max_size=100).map(lambda text: text * 3000))
def test_lines_are_cut_between_characters_and_lose_nothing(text: str) -> None:
    lines = split_lines(text.encode())
    assert all(0 < len(line) <= MAX_LINE for line in lines)
    assert "".join(line.decode() for line in lines) == text.replace("\n", "").replace("\r", "")
