"""Releases: what is packed, what is refused, and that a changed file is named wherever the folder is loaded."""

import json
import shutil
import sys
from types import SimpleNamespace

import pytest

from models import checkpoint
from models.checkpoint import CheckpointError
from models.style import Style
from models.style_avatar import StyleAvatar
from scripts import release
from tests.models.toy import settings, toy_clip, toy_face, toy_world


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained run's folder with one style and an evaluation of its weights."""
    folder, world = tmp_path_factory.mktemp("run"), toy_world(n=6)
    where = folder / "lmdb"
    checkpoint.save(
        folder / "best", "style_avatar", StyleAvatar(settings(), world.stats, world.face), {"data": str(where)}
    )
    Style.from_statistics(toy_clip(0)["statistics"], "somebody").save(folder / "styles" / "somebody.json")
    weights = checkpoint.hash_file(folder / "best.safetensors")
    summary = {
        "rows": {"generated": {"lve_mm": {"mean": 1.597247, "low": 1.4, "high": 1.8, "median": 1.5, "clips": 15.0}}},
        "counts": {"generated": {"frames": 1125, "skipped_frames": 0}},
        "units": {"lve_mm": {"label": "lip vertex error", "unit": "mm", "better": "lower", "meaning": "..."}},
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    facts = {"checkpoint_weights": weights[:16], "store": "abc"}
    (folder / "settings.yaml").write_text(json.dumps({"facts": facts, "hash": "def", "about": {"code": "123"}}))
    return folder


@pytest.fixture
def packed(run, tmp_path):
    arguments = ["--checkpoint", str(run), "--metrics", str(run / "summary.json"), "--output", str(tmp_path / "out")]
    assert release.main(arguments) == 0
    return tmp_path / "out"


def test_everything_is_packed_and_numbers_come_from_the_evaluation(packed, run):
    about = json.loads((packed / "release.json").read_text())
    assert set(about["files"]) == {"best.safetensors", "best.json", "README.md", "styles/somebody.json"}
    assert about["expected"]["metrics"]["lve_mm"]["mean"] == 1.597247 and about["expected"]["frames"] == 1125
    assert about["trained_by"] == checkpoint.read(run)["git_commit"] and about["packages"]["torch"]
    assert "| lip vertex error, mm | lower | 1.597 |" in (packed / "README.md").read_text()
    assert checkpoint.read(packed)["data"] == "lmdb"  # no place of this machine
    assert release.main(["--check", str(packed)]) == 0
    assert checkpoint.load(packed, face=toy_face()).settings["preset"] == "tiny"


def test_packing_in_place_is_packing_again(packed):
    before = (packed / "release.json").read_text()
    assert release.main(["--checkpoint", str(packed), "--output", str(packed)]) == 0
    files = [json.loads(text)["files"] for text in (before, (packed / "release.json").read_text())]
    assert files[0] == files[1]


def test_a_corrected_card_does_not_keep_the_folder_from_being_loaded(packed, capsys):
    with open(packed / "README.md", "a") as file:
        file.write("a word")
    checkpoint.load(packed, face=toy_face())
    assert release.main(["--check", str(packed)]) == 1 and "README.md differs" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["best.safetensors", "best.json", "styles/somebody.json"])
def test_a_changed_file_is_named_when_the_folder_is_loaded(packed, name, capsys):
    with open(packed / name, "ab") as file:
        file.write(b" ")
    for path in (packed, packed / "best"):
        with pytest.raises(CheckpointError, match=f"{name} differs"):
            checkpoint.load(path, face=toy_face())
    assert release.main(["--check", str(packed)]) == 1 and f"{name} differs" in capsys.readouterr().err


def test_an_absent_file_is_named_and_ones_own_are_welcome(packed):
    shutil.copy(packed / "styles" / "somebody.json", packed / "styles" / "mine.json")
    checkpoint.load(packed, face=toy_face())
    (packed / "styles" / "somebody.json").unlink()
    with pytest.raises(CheckpointError, match="styles/somebody.json is absent"):
        checkpoint.load(packed, face=toy_face())


def test_metrics_of_other_weights_are_refused(run, tmp_path, capsys):
    shutil.copy(run / "summary.json", tmp_path)
    about = json.loads((run / "settings.yaml").read_text())
    about["facts"]["checkpoint_weights"] = "0" * 16
    (tmp_path / "settings.yaml").write_text(json.dumps(about))
    arguments = [
        "--checkpoint",
        str(run),
        "--metrics",
        str(tmp_path / "summary.json"),
        "--output",
        str(tmp_path / "out"),
    ]
    assert release.main(arguments) == 1 and "evaluate them first" in capsys.readouterr().err


def test_nothing_is_sent_unless_asked_and_then_only_the_release(packed, monkeypatch, capsys):
    sent = []
    api = SimpleNamespace(create_repo=lambda name, exist_ok: None, upload_folder=lambda **all: sent.append(all))
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(HfApi=lambda: api))
    (packed / "private.txt").write_text("mine")
    assert release.main(["--check", str(packed)]) == 0 and not sent
    assert release.main(["--check", str(packed), "--upload", "somebody/idiolect"]) == 0
    assert sent[0]["repo_id"] == "somebody/idiolect" and "private.txt" not in sent[0]["allow_patterns"]
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert release.main(["--check", str(packed), "--upload", "somebody/idiolect"]) == 1
    assert "pip install huggingface_hub" in capsys.readouterr().err


def test_the_default_checkpoint_is_as_it_was_released():
    folder = release.Path(release.__file__).parents[1] / "data" / "checkpoints" / "default"
    about = checkpoint.check_release(folder, texts=False)
    assert about is not None and sum(name.startswith("styles/") for name in about["files"]) >= 10
    assert about["expected"]["metrics"]["lip_correlation"]["mean"] > 0.9
