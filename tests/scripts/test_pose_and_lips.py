"""Lips with a still and with a moving head: end to end on the bundled portrait, and the table's differences."""

import json

import soundfile

import deepspeech
from deep_3drecon.assets import REPOSITORY
from scripts import pose_and_lips
from tests.made_person import made_track


def test_pose_leaves_the_mouth_alone(tmp_path, capsys):
    wav = deepspeech.load_audio(REPOSITORY / "data/demo/speech.flac")[8000:26000]
    soundfile.write(tmp_path / "speech.wav", wav, 16000)
    made_track(80).save(tmp_path / "head.npz")
    asked = ["--faces", str(REPOSITORY / "data/demo/portrait.png"), "--ref_pose", str(tmp_path / "head.npz")]
    asked += ["--sounds", str(tmp_path / "speech.wav"), "--output", str(tmp_path / "out")]
    assert pose_and_lips.main(asked) == 0
    text = capsys.readouterr().out
    still, moving = pose_and_lips.read(tmp_path / "out/lines.jsonl")
    assert still["mouth"] == moving["mouth"] == 0
    assert still["turn_deg"] == 0 < moving["turn_deg"] and still["seen_opening"] > 0.8
    assert pose_and_lips.main([str(tmp_path / "out/lines.jsonl")]) == 0
    assert capsys.readouterr().out.endswith(text[text.index("| head") :])


def test_differences_are_within_cases():
    lines = [
        {"case": str(k), "row": row, "turn_deg": 2.0, "seen_score": k + (row == "generated"), "lve_mm": None}
        for k in range(3) for row in pose_and_lips.ROWS
    ]  # fmt: skip
    last = pose_and_lips.table(json.loads(json.dumps(lines))).splitlines()[4].split(" | ")
    columns = list(pose_and_lips.COLUMNS)
    assert last[0] == "| difference" and last[1 + columns.index("seen_score")] == "1.000 [1.000, 1.000]"
    assert last[1 + columns.index("lve_mm")] == "–"
