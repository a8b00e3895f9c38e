"""Facts as JSON come back as they were, and other files are refused in words."""

import pytest

from models import json_files


class OtherError(ValueError):
    """What a caller refuses with."""


def read(path):
    return json_files.read(path, "toy-1", OtherError, "toy", "make one")


def test_what_was_written_comes_back(tmp_path):
    path = tmp_path / "new/folder/toy.json"
    json_files.write(path, "toy-1", {"name": "Zoë", "sizes": [1, 2.5]})
    assert read(path) == {"format": "toy-1", "name": "Zoë", "sizes": [1, 2.5]}
    assert [p.name for p in path.parent.iterdir()] == ["toy.json"]


def test_an_interrupted_write_leaves_the_last_file(tmp_path):
    path = tmp_path / "toy.json"
    json_files.write(path, "toy-1", {"n": 1})
    with pytest.raises(TypeError):
        json_files.write(path, "toy-1", {"n": object()})
    assert read(path)["n"] == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", "\x00", '{"format": "toy-2"}'])
def test_another_file_is_refused_with_its_name_and_a_remedy(tmp_path, text):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(OtherError, match="bad.json: .* toy .*: make one"):
        read(path)
    with pytest.raises(OtherError, match="none.json: no toy here .*: make one"):
        read(tmp_path / "none.json")
