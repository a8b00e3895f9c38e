"""Report on head motion: cases from a store, the table's ranks and retrieval from lines, a run end to end."""

import io
import json

import numpy as np
import pytest
import soundfile

from data_process import schema
from data_process.store import StoreWriter
from deep_3drecon.coeffs import OPEN_LAYOUT
from deep_3drecon.face_model import load_face_model
from models import headpose_habit
from scripts import pose_report
from scripts.evaluation import habit_choice, head_motion
from tests.data_process import made
from tests.models.made_heads import head, speech


def clip(n_frames, seed, rhythm_s, amplitude):
    """Records of a clip whose head is made up."""
    curves, lids = head(n_frames, seed, rhythm_s, amplitude)
    track, sound = made.track(n_frames, seed), speech(n_frames, seed)
    names = list(load_face_model("open").expression_names)
    parts = {name: value.copy() for name, value in OPEN_LAYOUT.split(track.coeff).items()}
    parts["angle"], parts["trans"] = (x.astype(np.float32) for x in (curves[:, :3], curves[:, 3:6]))
    parts["exp"][:, names.index("eyeBlinkLeft")] = parts["exp"][:, names.index("eyeBlinkRight")] = lids
    track.coeff = OPEN_LAYOUT.join(**parts)
    buffer = io.BytesIO()
    wav = np.repeat(sound[:, 0], 320) * np.random.default_rng(seed).normal(size=640 * n_frames)
    soundfile.write(buffer, wav, 16000, format="WAV", subtype="PCM_16")
    return {
        "track": schema.pack_track(track), "coeff": schema.pack_array(track.coeff), "audio": buffer.getvalue(),
        "energy": schema.pack_array(sound.astype(np.float32)),
    }  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("poses") / "x.lmdb"
    with StoreWriter(path, {"made": True}) as writer:
        for name, speaker, n, kind in (
            ("a", "ann", 430, (0.2, 1.0)),
            ("b", "bob", 430, (0.5, 2.5)),
            ("c", "eve", 140, (0.3, 1.0)),
        ):
            info = {"n_frames": n, "speaker": speaker}
            writer.add(name, "key", "train", clip(n, ord(name), *kind), info)
        extra = {
            "face_model": "open",
            "face_model_hash": "made",
            "layout": OPEN_LAYOUT.sizes,
            "speakers": ["ann", "bob", "eve"],
        }
        writer.finish(extra, {})
    return path


def test_long_clips_are_cut_and_short_ones_left(store):
    cases = head_motion.find_cases(store)
    assert [c.name for c in cases] == ["a:first", "a:last", "b:first", "b:last"]
    first, last = cases[:2]
    assert len(first.learn.curves) == 300 and len(first.held_out[0].curves) == 130
    np.testing.assert_array_equal(first.held_out[0].curves[-1], last.learn.curves[-1])
    np.testing.assert_array_equal(last.held_out[0].curves[0], first.learn.curves[0])


def test_a_run_ranks_people_made_to_differ(store, tmp_path, capsys):
    output = tmp_path / "poses.jsonl"
    assert pose_report.main(["--lmdb", str(store), "--output", str(output), "--seeds", "2", "--only", "first"]) == 0
    text = capsys.readouterr().out
    assert "| ours |" in text and "2 cases of 2 speakers" in text and "Own behaviour is nearest" in text
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    hits, n = pose_report.found_own(lines)
    assert hits.tolist() == [1, 1] and n == 2
    means = {
        row: np.mean(list(pose_report.by_case(lines, row, "speed")[0].values()))
        for row in ("ours", "other speaker", "still")
    }
    assert means["ours"] < means["other speaker"] and means["ours"] < means["still"]
    replay = np.mean(list(pose_report.by_case(lines, "ping-pong", "nearest")[0].values()))
    assert replay < 0.7 * np.mean(list(pose_report.by_case(lines, "ours", "nearest")[0].values()))
    assert pose_report.main([str(output)]) == 0 and capsys.readouterr().out == text


def test_constants_are_drawn_and_put_back(store, capsys):
    before = headpose_habit.PLACE_HZ
    with pytest.raises(KeyError), habit_choice.drawn_constants(1):
        assert headpose_habit.PLACE_HZ != before and headpose_habit.PLACE_SHARE <= 1
        raise KeyError
    assert headpose_habit.PLACE_HZ == before
    assert pose_report.main(["--lmdb", str(store), "--draws", "2", "--seeds", "1", "--only", "first"]) == 0
    assert "| best draw of the other speakers | " in capsys.readouterr().out


def test_nobody_is_judged_by_what_was_chosen_on_him():
    places, speakers = np.array([[1, 1, 9.0], [2, 2, 3.0]]), np.array(["ann", "bob", "eve"])
    judged = habit_choice.judged_on_others(places, speakers, [["ann"], ["bob"], ["eve"]])
    assert judged.tolist() == [2, 2, 9]


def test_ranks_put_what_cannot_be_measured_last():
    lines = [{"case": "x", "row": row, "angle": a, "spectrum": a, "beat_gap": b} for row, a, b in
             (("ours", 1.0, 0.1), ("ping-pong", 2.0, 0.2), ("still", 3.0, None))]  # fmt: skip
    ranks = pose_report.ranks(lines, ["ours", "ping-pong", "still"])
    assert ranks["ours"].tolist() == [[1, 1, 1]] and ranks["still"].tolist() == [[3, 3, 3]]


def test_nothing_to_hold_out_is_an_error(tmp_path, capsys):
    path = made.store(tmp_path / "y.lmdb", [("a", "train", "bob", 60, ())])
    assert pose_report.main(["--lmdb", str(path)]) == 1
    assert "nothing to hold out" in capsys.readouterr().err
