"""Places to write to are refused before the work, in words, and by the commands in one line."""

import pytest

from data_process import splits, stats, verify
from data_process.outputs import make_folder, writable_file, write_aside
from deep_3drecon import reconstruct


@pytest.fixture
def places(tmp_path):
    """A folder with a file `taken` and a folder `folder`."""
    (tmp_path / "taken").write_text("x")
    (tmp_path / "folder").mkdir()
    return tmp_path


def test_folders_and_files_are_made_ready(places):
    assert make_folder(places / "a" / "b").is_dir() and make_folder(places / "folder").is_dir()
    path = writable_file(places / "c" / "new.json")
    assert path.parent.is_dir() and not list(path.parent.iterdir())
    write_aside(path, "1")
    assert writable_file(path).read_text() == "1"


def test_what_cannot_be_written_is_said(places):
    with pytest.raises(OSError, match="taken: is a file, the name of a folder"):
        make_folder(places / "taken")
    with pytest.raises(OSError, match="folder: is a folder, the name of a file"):
        writable_file(places / "folder")
    for path in (places / "taken" / "x", "/proc/none/x"):
        with pytest.raises(OSError, match="cannot be made .*: name a folder|is a file"):
            writable_file(path)


@pytest.mark.parametrize(
    ("command", "line", "said"),
    [
        (splits, ["--clips", "{0}/none", "--output", "{0}/x.json"], "none: no such folder"),
        (splits, ["--clips", "{0}/folder", "--output", "{0}/x.json"], "none would be left to train on"),
        (stats, ["--lmdb", "{0}/none"], "no LMDB store here"),
        (verify, ["{0}/folder"], "no LMDB store here"),
        (verify, ["{0}/folder", "--json", "{0}/folder"], "is a folder, the name of a file"),
        (reconstruct, ["--video", "{0}/none.mp4", "--output", "{0}/taken/x.npz"], "is a file, the name of a folder"),
    ],
)
def test_commands_refuse_in_one_line(places, capsys, command, line, said):
    assert command.main([word.format(places) for word in line]) in (1, 2)
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1
