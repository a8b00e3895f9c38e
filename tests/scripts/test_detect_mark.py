"""The command that looks for the mark, on video files."""

import json

import numpy as np

from data_process.video import VideoWriter
from models import mark
from scripts import detect_mark
from tests.models.test_mark import film


def test_files_are_told_apart(tmp_path, capsys):
    plain = film(0, 15)
    for name, frames in {"plain": plain, "marked": [mark.stamp(frame) for frame in plain]}.items():
        with VideoWriter(tmp_path / f"{name}.mp4", threads=1) as video:
            for frame in frames:
                video.write(frame)
    paths = [str(tmp_path / f"{name}.mp4") for name in ("marked", "plain")]
    assert detect_mark.main([paths[0]]) == 0 and "synthetic, payload 1" in capsys.readouterr().out
    assert detect_mark.main([*paths, "--json"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["found"] for line in lines] == [True, False] and lines[0]["payload"] == mark.SYNTHETIC
    assert lines[0]["frames"] == 15 and np.isfinite(lines[1]["score"])


def test_an_unreadable_file_is_named(tmp_path, capsys):
    (tmp_path / "no.mp4").write_bytes(b"nothing")
    assert detect_mark.main([str(tmp_path / "no.mp4")]) == 2 and "no.mp4" in capsys.readouterr().err


def test_cut_borders_are_searched_for_on_request(tmp_path, capsys):
    for name, frames in {"marked": [mark.stamp(frame) for frame in film(1, 4)], "plain": film(1, 4)}.items():
        with VideoWriter(tmp_path / f"{name}.mp4", threads=1) as video:
            for frame in frames:
                video.write(np.ascontiguousarray(frame[6:252, 10:248]))
    marked, plain = (str(tmp_path / f"{name}.mp4") for name in ("marked", "plain"))
    assert detect_mark.main([marked]) == 1
    assert detect_mark.main([marked, "--crops"]) == 0
    assert detect_mark.main([plain, "--crops"]) == 1
