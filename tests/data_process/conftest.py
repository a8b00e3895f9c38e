"""Clips that several tests of the store share."""

import pytest

from data_process.clips import find_videos, make_jobs, run
from data_process.cutting import CutSettings
from data_process.segments import Rules
from tests.data_process import made


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    """Four clips of 0.8 to 1.0 s of two speakers."""
    raw, out = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("clips")
    for k in range(4):
        folder = raw / f"speaker{k % 2}"
        folder.mkdir(exist_ok=True)
        frames = made.head_frames(20 + k, centre=(110 + 4 * k, 100), yaw=0.05 * k)
        made.write_video(folder / f"take{k}.mp4", frames, seconds_of_sound=(20 + k) / 25)
    settings = CutSettings(rules=Rules(min_s=0.4, min_face_px=48))
    run(make_jobs(find_videos([raw]), out, settings, {}), out, progress=False)
    return out
