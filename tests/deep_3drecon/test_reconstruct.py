"""The reconstruct command, on a rendered head whose jaw and pose are known."""

import cv2
import numpy as np
import pytest

from data_process.face_tracks import track_quality
from data_process.video import probe, read_frames
from deep_3drecon.face_model import load_face_model
from deep_3drecon.reconstruct import main
from deep_3drecon.track import FaceTrack
from tests.data_process import made


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(folder, track) of 1.2 s at 30 fps, reconstructed with an overlay."""
    folder = tmp_path_factory.mktemp("reconstruct")
    made.write_video(folder / "talk.mp4", made.head_frames(36, (320, 260)), fps=30, seconds_of_sound=1.2)
    paths = [str(folder / name) for name in ("talk.mp4", "track.npz", "overlay.mp4")]
    assert main(["--video", paths[0], "--output", paths[1], "--overlay", paths[2]]) == 0
    return folder, FaceTrack.load(paths[1])


def test_the_track_follows_the_jaw_at_25_fps(done):
    _, track = done
    quality = track_quality(track)
    assert len(track) == 30 and track.fps == 25 and quality["tracked"] == 1
    assert quality["reprojection"] < 4 and quality["lip_correlation"] > 0.97
    phase = 2 * 30 / 25 * np.arange(30) / 25  # the head opens its jaw twice every 25 of its frames
    truth = 0.35 * (1 - np.cos(2 * np.pi * phase)) / 2
    jaw = track.parts()["exp"][:, load_face_model("open").index("jawOpen")]
    assert np.corrcoef(jaw, truth)[0, 1] > 0.97


def test_the_overlay_lies_on_the_face(done):
    folder, _ = done
    info = probe(folder / "overlay.mp4")
    assert (info.width, info.height, info.n_frames, info.has_audio) == (1024, 512, 30, True)
    frame = list(read_frames(folder / "overlay.mp4"))[8].astype(int)
    changed = np.abs(frame[:, :512] - frame[:, 512:]).max(-1) > 12
    background = np.abs(frame[:, :512] - frame[2, 2]).max(-1) < 12
    assert changed[~background].mean() > 0.6, "the drawn head covers the rendered one"
    assert changed[background].mean() < 0.1, "and little else"


def test_a_texture_and_light_from_the_pixels(tmp_path, capsys):
    made.write_video(tmp_path / "talk.mp4", made.head_frames(10, (320, 260)), fps=25)
    paths = {name: str(tmp_path / name) for name in ("talk.mp4", "track.npz", "face.png")}
    args = ["--video", paths["talk.mp4"], "--output", paths["track.npz"], "--texture", paths["face.png"]]
    assert main(args) == 0
    assert "pixels of the skin off by" in capsys.readouterr().out
    assert FaceTrack.load(paths["track.npz"]).parts()["gamma"].any()
    texture, sure = (cv2.imread(str(tmp_path / name)) for name in ("face.png", "face.confidence.png"))
    assert texture.shape == sure.shape and sure.max() > 100 and texture[sure > 128].std() > 0
    with pytest.raises(SystemExit):
        main([*args[:-1], "face.tiff"])


def test_what_cannot_be_reconstructed(tmp_path, capsys):
    made.write_video(tmp_path / "grey.mp4", [np.full((96, 96, 3), 80, np.uint8)] * 5)
    assert main(["--video", str(tmp_path / "grey.mp4"), "--output", str(tmp_path / "t.npz")]) == 1
    assert "no face" in capsys.readouterr().err and not (tmp_path / "t.npz").exists()
    assert main(["--video", str(tmp_path / "absent.mp4"), "--output", str(tmp_path / "t.npz")]) == 1
    with pytest.raises(SystemExit):
        main(["--video", "x.mp4", "--output", "track.mat"])
