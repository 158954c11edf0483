"""Files are written whole, and sealed JSON is read back or refused by file and line."""

import os

import pytest

from analysis import files
from analysis.errors import Damaged, InputError, printable, shown


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / "new" / "a.json"
    files.write_json(path, {"a": 1, "b": {"c": [None, "é"]}})
    assert files.read_json(path) == {"a": 1, "b": {"c": [None, "é"]}}
    assert '"digest": "' in path.read_text()
    files.write_text(tmp_path / "a.jsonl", files.json_line({"a": 1}) + files.json_line({"a": 2}))
    assert files.read_lines(tmp_path / "a.jsonl") == [{"a": 1}, {"a": 2}]
    assert not list(tmp_path.rglob(".*"))


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    files.write_text(tmp_path / "link", "ours")
    assert (tmp_path / "mine").read_text() == "mine" and not (tmp_path / "link").is_symlink()


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a"
    files.write_text(path, "before")

    def fail(_):
        raise OSError("no")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no"):
        files.write_text(path, "after")
    assert path.read_text() == "before" and [p.name for p in tmp_path.iterdir()] == ["a"]


def test_lines_up_to_the_first_damaged_one_are_kept(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [files.json_line({"a": i}) for i in range(3)]
    path.write_text(lines[0] + lines[1].replace("1", "2", 1) + lines[2])
    records, problem = files.intact_lines(path)
    assert records == [{"a": 0}] and "line 2: it is damaged: its digest does not" in str(problem)
    with pytest.raises(Damaged, match="line 2"):
        files.read_lines(path)


def test_lines_need_a_digest_unless_other_tools_wrote_them(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a"')
    with pytest.raises(Damaged, match="line 1: it is damaged: it has no digest"):
        files.read_lines(path)
    found = files.scan_lines(path, sealed=False)
    assert found.records == [{"a": 1}] and found.cut and found.problem is None


def test_text_after_the_digest_is_damage(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(files.json_line({"a": 1}).replace("}", ', "b": 2}'))
    with pytest.raises(Damaged, match="does not match"):
        files.read_lines(path)


def test_a_file_that_is_not_there_has_no_lines_and_no_object(tmp_path):
    assert files.read_lines(tmp_path / "none") == []
    with pytest.raises(FileNotFoundError):
        files.read_json(tmp_path / "none")


def test_damage_is_bad_input_and_values_are_quoted_on_one_line():
    assert issubclass(Damaged, InputError) and not issubclass(InputError, ValueError)
    assert len(shown("x" * 1000)) <= 200 and "\n" not in shown({"a": "b\nc"})
    assert shown(10**5000) == "a number of thousands of digits"
    assert printable("a\x1b[2J") == "a\\x1b[2J"
