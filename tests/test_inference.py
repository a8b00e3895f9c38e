"""The command line on good and bad input, with the released checkpoint and the bundled picture and speech."""

import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import soundfile

import inference
from data_process.video import VideoWriter, probe, read_frames
from deepspeech import SAMPLE_RATE, load_audio
from models import checkpoint
from models.style import Style
from scripts.inference import sources

ROOT = Path(__file__).parents[1]
PORTRAIT, SPEECH = ROOT / "data/demo/portrait.png", ROOT / "data/demo/speech.flac"


@pytest.fixture(scope="module")
def portrait():
    return cv2.imread(str(PORTRAIT))[..., ::-1]


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    """One second of the bundled speech as wav."""
    path = tmp_path_factory.mktemp("sound") / "second.wav"
    soundfile.write(path, load_audio(SPEECH)[SAMPLE_RATE : 2 * SAMPLE_RATE], SAMPLE_RATE)
    return path


def talk(folder, image=PORTRAIT, audio=None, *more):
    """Run inference at 128 px in this process; returns the videos."""
    argv = ["--source_image", str(image), "--driven_audio", str(audio), "--result_dir", str(folder), "--size", "128"]
    return inference.run(inference.parse([*argv, "--threads", "1", "--preprocess", "crop", *map(str, more)]))


def fails(capsys, *argv):
    """What the user reads when the command refuses."""
    with pytest.raises(SystemExit) as stop:
        inference.main([str(a) for a in argv])
    assert stop.value.code not in (0, None)
    return str(stop.value.code)


def save(path, image):
    cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 and image.shape[2] == 3 else image)
    return path


def test_video_and_motion_are_written_and_agree(tmp_path, second):
    (path,) = talk(tmp_path, PORTRAIT, second)
    info = probe(path)
    with np.load(path.with_suffix(".npz")) as motion:
        assert motion["exp"].shape == (25, 52) and motion["angle"].shape == motion["trans"].shape == (25, 3)
        assert 0 <= motion["exp"].min() and motion["exp"].max() <= 1
    assert info.has_audio and info.fps == 25 and len(list(read_frames(path))) == 25
    assert len(load_audio(path)) / SAMPLE_RATE == pytest.approx(1.0, abs=0.04)
    assert not list(tmp_path.glob("*.part*"))
    with av.open(str(path)) as container:
        assert "synthetic" in container.metadata["comment"]


def test_same_seed_same_video_and_nothing_is_overwritten(tmp_path, second):
    (one,), (two,) = talk(tmp_path / "a", PORTRAIT, second), talk(tmp_path / "b", PORTRAIT, second)
    assert all(np.array_equal(a, b) for a, b in zip(read_frames(one), read_frames(two), strict=True))
    before = one.read_bytes()
    with pytest.raises(FileExistsError, match="already there: use --overwrite"):
        talk(tmp_path / "a", PORTRAIT, second)
    assert one.read_bytes() == before


def test_several_styles_are_also_shown_side_by_side(tmp_path, second):
    paths = talk(tmp_path, PORTRAIT, second, "--style_clip", "lively", "restrained", "--name", "two")
    assert [p.name for p in paths] == ["two__lively.mp4", "two__restrained.mp4", "two.mp4"]
    assert probe(paths[2]).width == 2 * probe(paths[0]).width


def test_full_picture_keeps_its_border(tmp_path, second, portrait):
    args = ["--source_image", PORTRAIT, "--driven_audio", second, "--result_dir", tmp_path, "--size", "128"]
    (path,) = inference.run(inference.parse([str(a) for a in args]))
    frame = list(read_frames(path))[-1].astype(int)
    assert frame.shape[:2] == tuple(s + s % 2 for s in portrait.shape[:2])
    assert np.abs(frame[:4, :4] - portrait[:4, :4].astype(int)).mean() < 12  # codec only


@pytest.mark.parametrize("kind", ["grey", "rgba", "forty_px_face", "two_faces"])
def test_unusual_pictures_work(tmp_path, second, portrait, kind, capsys):
    if kind == "grey":
        image = portrait.mean(-1).astype(np.uint8)
    elif kind == "rgba":
        image = np.dstack([portrait[..., ::-1], np.full(portrait.shape[:2], 255, np.uint8)])
    elif kind == "two_faces":
        image = beside(portrait)
    else:
        width = sources.track_portrait(portrait, "portrait").landmarks[0, :, 0]
        image = cv2.resize(portrait, None, fx=40 / np.ptp(width), fy=40 / np.ptp(width), interpolation=cv2.INTER_AREA)
    (path,) = talk(tmp_path, save(tmp_path / f"{kind}.png", image), second)
    assert len(list(read_frames(path))) == 25
    said = capsys.readouterr().err
    assert {"two_faces": "2 faces", "forty_px_face": "px wide"}.get(kind, "") in said


def beside(portrait):
    """Two faces, the left one larger."""
    small = cv2.resize(portrait, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    canvas = np.full((portrait.shape[0], portrait.shape[1] + small.shape[1], 3), 128, np.uint8)
    canvas[:, : portrait.shape[1]] = portrait
    canvas[: small.shape[0], portrait.shape[1] :] = small
    return canvas


def test_painting(tmp_path, second, media):
    (path,) = talk(tmp_path, media / "portraits" / "LivePortrait__s9.jpg", second)
    assert len(list(read_frames(path))) == 25


def test_no_face_in_the_picture(tmp_path, second, capsys):
    noise = save(tmp_path / "noise.png", np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8))
    said = fails(capsys, "--source_image", noise, "--driven_audio", second, "--result_dir", tmp_path / "out")
    assert "noise.png" in said and "no face" in said
    assert not list((tmp_path / "out").glob("*"))


def test_silence_keeps_the_mouth_still(tmp_path, capsys):
    soundfile.write(tmp_path / "silent.wav", np.zeros(2 * SAMPLE_RATE), SAMPLE_RATE)
    (path,) = talk(tmp_path, PORTRAIT, tmp_path / "silent.wav")
    assert "silent" in capsys.readouterr().err
    with np.load(path.with_suffix(".npz")) as motion:
        jaw = motion["exp"][:, checkpoint.load(ROOT / "data/checkpoints/default").face.index("jawOpen")]
    assert jaw.std() < 0.02


def test_a_fifth_of_a_second(tmp_path):
    soundfile.write(tmp_path / "short.wav", load_audio(SPEECH)[16000:19200], SAMPLE_RATE)
    (path,) = talk(tmp_path, PORTRAIT, tmp_path / "short.wav")
    assert len(list(read_frames(path))) == 5


def test_stereo_mp3_at_44100(tmp_path, second):
    wav, rate = soundfile.read(second, dtype="float32")
    samples = np.interp(np.arange(0, 1, 1 / 44100), np.arange(len(wav)) / rate, wav).astype(np.float32)
    with av.open(str(tmp_path / "sound.mp3"), "w") as container:
        stream = container.add_stream("mp3", rate=44100, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.stack([samples, samples]), format="fltp", layout="stereo")
        frame.sample_rate = 44100
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    (path,) = talk(tmp_path, PORTRAIT, tmp_path / "sound.mp3")
    assert len(list(read_frames(path))) in (25, 26, 27)  # mp3 pads to whole packets


def test_no_sound_in_the_sound_file(tmp_path, capsys):
    said = fails(capsys, "--source_image", PORTRAIT, "--driven_audio", PORTRAIT, "--result_dir", tmp_path)
    assert "portrait.png" in said


@pytest.fixture
def faceless(tmp_path):
    """A second of grey as mp4."""
    with VideoWriter(tmp_path / "grey.mp4") as video:
        for _ in range(25):
            video.write(np.full((64, 64, 3), 128, np.uint8))
    return tmp_path / "grey.mp4"


def test_style_clips_that_cannot_be_used(tmp_path, second, faceless, capsys):
    start = ["--source_image", PORTRAIT, "--driven_audio", second, "--result_dir", tmp_path / "out", "--style_clip"]
    assert "no face" in fails(capsys, *start, faceless)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(faceless.read_bytes()[:300])
    assert "cut.mp4" in fails(capsys, *start, cut)
    said = fails(capsys, *start, "furious")
    assert "furious" in said and "lively" in said  # names what is released


def test_folder_that_cannot_be_written(tmp_path, second, capsys):
    (tmp_path / "file").write_text("")
    said = fails(
        capsys, "--source_image", PORTRAIT, "--driven_audio", second, "--result_dir", tmp_path / "file" / "out"
    )
    assert "file" in said


def test_missing_checkpoint_is_named(tmp_path, second, capsys):
    said = fails(capsys, "--source_image", PORTRAIT, "--driven_audio", second, "--checkpoint_dir", tmp_path)
    assert "train_style.py" in said


def test_checkpoints_of_another_kind_and_devices_that_are_not_there(tmp_path, second, capsys):
    start = ["--source_image", PORTRAIT, "--driven_audio", second, "--result_dir", tmp_path]
    meshes, faces = (ROOT / "data/checkpoints" / name for name in ("talking_style", "default"))
    assert "holds talking_style, which takes no style" in fails(capsys, *start, "--checkpoint_dir", meshes)
    on_mesh = ["--mesh", "open", *start[2:], "--checkpoint_dir"]
    assert "moves no meshes" in fails(capsys, *on_mesh, faces)
    assert "device 'gpu'" in fails(capsys, *start, "--device", "gpu")
    fails(capsys, *start, "--name", "../elsewhere")
    assert "a name without folders" in capsys.readouterr().err


def test_styles_differ_in_the_order_of_their_liveliness(tmp_path, second):
    talk(tmp_path, PORTRAIT, SPEECH, "--style_clip", "lively", "restrained", "--name", "two")
    spread = {}
    for name in ("lively", "restrained"):
        with np.load(tmp_path / f"two__{name}.npz") as motion:
            spread[name] = motion["exp"].std(0).sum()
        assert Style.load(ROOT / f"data/checkpoints/default/styles/{name}.json").parts["std_exp"].shape == (52,)
    assert spread["lively"] > 1.3 * spread["restrained"]


def test_ref_pose_and_still(tmp_path, second):
    (path,) = talk(tmp_path / "a", PORTRAIT, second, "--still")
    with np.load(path.with_suffix(".npz")) as motion:
        assert not motion["angle"].any() and not motion["trans"].any()
    (moved,) = talk(tmp_path / "b", PORTRAIT, second)
    (copied,) = talk(tmp_path / "c", PORTRAIT, SPEECH, "--ref_pose", moved, "--pose_scale", "0.5")
    with np.load(copied.with_suffix(".npz")) as motion:
        assert np.allclose(motion["angle"][:24], motion["angle"][48:24:-1])  # back and forth over the second


MEASURED_RUN = """
import resource, sys, inference
inference.main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_memory(folder, seconds):
    """Peak memory of a run on so many seconds of sound, in a process of its own; the unit is the system's."""
    soundfile.write(folder / f"{seconds}.wav", np.resize(load_audio(SPEECH), seconds * SAMPLE_RATE), SAMPLE_RATE)
    argv = ["--source_image", PORTRAIT, "--driven_audio", folder / f"{seconds}.wav", "--result_dir", folder]
    argv += ["--size", "128", "--preprocess", "crop", "--threads", "1"]
    command = [sys.executable, "-c", MEASURED_RUN, *map(str, argv)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1])


def test_three_minutes_take_no_more_memory_than_ten_seconds(tmp_path):
    assert peak_memory(tmp_path, 180) < 1.2 * peak_memory(tmp_path, 10)
