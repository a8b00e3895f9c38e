"""personalize: stages done once and resumed, times counted, and what is refused before any work."""

import json

import numpy as np
import pytest

from data_process.video import VideoWriter
from scripts import personalize
from scripts.personalize import PersonalizeError, Work, learning_span, main


@pytest.fixture
def clip(tmp_path):
    """Three grey seconds."""
    path = tmp_path / "short.mp4"
    with VideoWriter(path, audio=np.zeros(48000, np.float32), sample_rate=16000, threads=1) as video:
        for _ in range(75):
            video.write(np.full((64, 64, 3), 128, np.uint8))
    return path


def test_a_short_clip_is_refused_with_the_length_that_is_needed(clip, tmp_path, capsys):
    assert main([str(clip), "--output", str(tmp_path / "people")]) == 1
    said = capsys.readouterr().err
    assert "3.0 s" in said and "12 s are needed" in said and "Traceback" not in said


def test_missing_clips_and_wrong_shares(tmp_path, capsys):
    assert main([str(tmp_path / "none.mp4")]) == 1 and "none.mp4" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(tmp_path / "none.mp4"), "--hold_out", "0.9"])


def test_stages_are_done_once_and_go_on_after_a_failure(clip, tmp_path, monkeypatch):
    calls = []

    def fails(work):
        calls.append("fails")
        raise PersonalizeError("no")

    monkeypatch.setattr(personalize, "STAGES", {"track": calls.append, "renderer": fails})
    folder = tmp_path / "people" / "anna"
    work = Work(folder, clip, {"hold_out": 0.0})
    work.stage("track", lambda w: calls.append("track"))
    with pytest.raises(PersonalizeError):
        work.stage("renderer", fails)
    again = Work(folder, clip, {"hold_out": 0.0})
    again.stage("track", fails)
    again.stage("renderer", lambda w: calls.append("renderer"))
    assert calls == ["track", "fails", "renderer"]
    state = json.loads((folder / "work" / "stages.json").read_text())
    assert state["done"] == ["track", "renderer"] and set(state["seconds"]) == {"track", "renderer"}
    assert "| track | 0.0 | reconstruction | 2.0 |" in again.table() and "| GAN | 40.0 |" in again.table()


def test_another_clip_or_other_settings_are_not_mixed_in(clip, tmp_path):
    folder = tmp_path / "anna"
    Work(folder, clip, {"hold_out": 0.0}).stage("style", lambda w: None)
    with pytest.raises(PersonalizeError, match="other settings"):
        Work(folder, clip, {"hold_out": 0.2})


def test_the_end_is_held_out():
    assert learning_span(500, 0.2) == (0, 400) and learning_span(500, 0.0) == (0, 500)
