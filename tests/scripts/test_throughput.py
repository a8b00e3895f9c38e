"""The measure of throughput: clips drawn at its sizes, and stages whose shares make up the whole."""

import numpy as np
import pytest

from data_process.video import probe, read_frames
from scripts import throughput
from tests.data_process import made


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("raw") / "head.mp4"
    return made.write_video(path, made.head_frames(20, size=(200, 200), face_px=110), seconds_of_sound=0.5)


def test_a_clip_is_drawn_whole_at_both_sizes(clip, tmp_path):
    for size, (width, height) in {256: (256, 256), 720: (1280, 720)}.items():
        folder = tmp_path / str(size)
        folder.mkdir()
        (path,) = throughput.draw({"head": clip}, folder, size, seconds=0.6)
        about = probe(path)
        assert (about.width, about.height, about.n_frames) == (width, height, 15)
        frame = next(read_frames(path)).astype(int)
        middle = frame[:, (width - height) // 2 + 8 : (width + height) // 2 - 8]
        assert np.abs(middle[10, 10] - (60, 90, 110)).max() < 12, "the picture's own background"
        assert width == height or np.abs(frame[10, 10] - 110).max() < 6, "grey beside it"
        assert throughput.load_audio(path.with_suffix(".wav")).shape == (15 * 640,)


def test_stages_make_up_the_whole(clip, tmp_path):
    paths = throughput.draw({"head": clip}, tmp_path, 256, seconds=0.6)
    found = throughput.one_process(paths, tmp_path)
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert found["seconds"] == pytest.approx(0.6) and found["x_real_time"] > 0
    assert all(found["shares"][stage] > 0 for stage in throughput.STAGES if stage != "rest")
    assert found["shares"]["fit"] > found["shares"]["write"] and found["shares"]["rest"] < 0.2
    text = throughput.table({256: {"one": found, "many": {"x_real_time": 3.0, "seconds": 1.0}, "workers": 2}})
    assert "| 256x256 |" in text and "3.00 x real time" in text and "| landmarks |" in text


def test_wishes_that_cannot_be_met(tmp_path, capsys):
    with pytest.raises(SystemExit):
        throughput.main(["--workers", "1"])
    assert throughput.main(["--clips", str(tmp_path / "absent")]) == 1
    assert "no such folder" in capsys.readouterr().err
