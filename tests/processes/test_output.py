"""The log files of the platform's own processes."""

import os
from pathlib import Path

from cupola.processes import output


def test_a_file_that_grew_is_put_aside_while_its_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "logs/cell.log"
    writer, begin = output.open_for_append(path)
    assert begin == 0
    try:
        os.write(writer, b"old\n" * 100)
        assert not output.bound(path, max_bytes=1000)
        assert output.bound(path, max_bytes=300)
        os.write(writer, b"new\n")
        assert output.bound(path, max_bytes=1)
        os.write(writer, b"newest\n")
    finally:
        os.close(writer)
    assert path.read_text() == "newest\n"
    assert (tmp_path / "logs/cell.log.1").read_text() == "new\n"
    assert (tmp_path / "logs/cell.log.2").read_text() == "old\n" * 100
    assert sorted(file.name for file in path.parent.iterdir()) == ["cell.log", "cell.log.1", "cell.log.2"]


def test_the_tail_begins_after_the_offset(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("one\ntwo\n\nthree\n")
    assert output.tail(path) == ["one", "two", "three"]
    assert output.tail(path, offset=4) == ["two", "three"]
    # The file was put aside meanwhile.
    assert output.tail(path, offset=1000) == ["one", "two", "three"]
    assert output.tail(tmp_path / "none") == []
