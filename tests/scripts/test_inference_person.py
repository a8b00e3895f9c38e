"""inference.py on a person folder: which videos it writes, what it refuses, and frames that keep their surroundings."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import inference
from data_process.pictures import square_affine
from data_process.video import probe, read_frames, read_image
from deep_3drecon.face_model import load_face_model
from deepspeech import SAMPLE_RATE, load_audio
from models import checkpoint, mark
from models.neural_texture import NeuralTexture
from models.person import Person, PersonError
from scripts.inference.encode import beside
from scripts.inference.person import PersonDrawer, softly_within
from tests.made_person import SIZE, made_motion, made_person, made_track

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A person of noise with an untrained renderer at 64 px."""
    folder, model = tmp_path_factory.mktemp("people") / "anna", load_face_model("open")
    made_person(folder)
    torch.manual_seed(0)
    about = {"face_model": model.name, "face_model_hash": model.hash, "size": 64, "n_people": 1, "heads": 1.5}
    renderer = NeuralTexture({"preset": "tiny", "dims": {}}, about)
    torch.nn.init.normal_(renderer.generator.head.weight, std=0.05)
    checkpoint.save(folder / "renderer/best", "neural_texture", renderer)
    return folder


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Half a second of speech."""
    path = tmp_path_factory.mktemp("sound") / "half.wav"
    soundfile.write(path, load_audio(ROOT / "data/demo/speech.flac")[16000:24000], SAMPLE_RATE)
    return path


def talk(folder, sound, output, *more):
    argv = ["--person", folder, "--driven_audio", sound, "--result_dir", output, "--threads", "1", *more]
    return inference.run(inference.parse([str(a) for a in argv]))


def fails(capsys, *argv):
    with pytest.raises(SystemExit) as stop:
        inference.main([str(a) for a in argv])
    return f"{stop.value.code} {capsys.readouterr().err}"


def test_whole_frame_and_face_are_written(folder, sound, tmp_path):
    paths = talk(folder, sound, tmp_path, "--pose", "still")
    assert [p.name for p in paths] == ["anna__half__own_full.mp4", "anna__half__own_face.mp4"]
    assert (probe(paths[0]).width, probe(paths[0]).height) == SIZE and probe(paths[1]).width == 64
    assert all(probe(p).n_frames == 13 and probe(p).has_audio for p in paths)
    with np.load(tmp_path / "anna__half__own.npz") as motion:
        assert motion["exp"].shape == (13, 52) and not motion["angle"].any()
    with pytest.raises(FileExistsError, match="_face.mp4"):
        talk(folder, sound, tmp_path)
    (face,) = talk(folder, sound, tmp_path / "b", "--preprocess", "crop", "--background", "ping_pong")
    assert face.name.endswith("_face.mp4") and mark.detect(read_frames(face)).score > 3


def test_the_own_head_is_copied_from_the_clip(folder, sound, tmp_path):
    talk(folder, sound, tmp_path, "--pose", "from_video", "--preprocess", "crop", "--name", "copied")
    angle = made_track().parts()["angle"][:32]
    with np.load(tmp_path / "copied.npz") as motion:
        assert np.allclose(motion["angle"], (angle - angle.mean(0))[:13], atol=1e-6)


@pytest.mark.parametrize("mode", ["hold", "keyframes"])
def test_pixels_outside_of_the_crop_are_those_of_the_source(folder, mode):
    person = Person.load(folder, read_frames)
    drawer = PersonDrawer(person, checkpoint.load(person.renderer), {"_full": True, "_face": False}, mode=mode)
    drawer.crop.square, drawer.fine, before = (10.0, 8.0, 20.0), None, None
    drawer.crop.to_crop = square_affine(drawer.crop.square, 64)
    motion = made_motion(6)
    drawer.plan(motion)
    for (full, face), (first, second, _) in zip(drawer.draw(motion), drawer.chosen, strict=True):
        (source,) = person.frames([first])
        if second is None:
            assert np.array_equal(full[:, 31:], source[:, 31:]) and np.array_equal(full[30:], source[30:])
        assert not np.array_equal(full, source) and face.shape == (64, 64, 3)
        assert before is None or not np.array_equal(before, face)
        before = face


class Negative:
    """A renderer that draws a whole motion at once: each source, negated."""

    stats = {"size": 64, "heads": 1.5, "n_people": 1}

    def to(self, device):
        return self

    def render(self, compositor, sources, id, exp, angle, trans, gamma, affine, past=None):
        for source, _ in zip(sources, exp, strict=True):
            yield 255 - source.picture, None, None


def test_a_renderer_of_whole_motions(folder):
    person = Person.load(folder, read_frames)
    drawer, motion = PersonDrawer(person, Negative(), {"_face": False}), made_motion(6)
    drawer.plan(motion)
    for (face,), (first, second, share) in zip(drawer.draw(motion), drawer.chosen, strict=True):
        assert np.array_equal(face, 255 - drawer.crop.source(second if share > 0.5 else first).picture)
    with pytest.raises(PersonError, match="torch"):
        PersonDrawer(person, Negative(), {"_face": False}, backend="onnx")


def test_whole_frames_have_the_detail_of_the_clip(folder):
    person = Person.load(folder, read_frames)
    renderer, motion = checkpoint.load(person.renderer), made_motion(3)
    fine, coarse = (PersonDrawer(person, renderer, {"": True}, detail=detail) for detail in (True, False))
    assert fine.fine.size == 128 and coarse.fine is None  # the square about this head is 84 to 128 px of the frame
    shown = [list(drawer.draw(motion)) for drawer in (fine, coarse)]
    assert all(a[0].shape == b[0].shape and not np.array_equal(a[0], b[0]) for a, b in zip(*shown, strict=True))


def test_a_portrait_by_a_renderer_of_several_people(sound, tmp_path, capsys, folder):
    model = load_face_model("open")
    torch.manual_seed(0)
    about = {"face_model": model.name, "face_model_hash": model.hash, "size": 64, "n_people": 2, "heads": 1.5}
    checkpoint.save(tmp_path / "many/best", "neural_texture", NeuralTexture({"preset": "tiny", "dims": {}}, about))
    argv = ["--source_image", ROOT / "data/demo/portrait.png", "--driven_audio", sound, "--result_dir", tmp_path]
    args = [str(a) for a in [*argv, "--renderer_dir", tmp_path / "many", "--threads", "1", "--pose", "still"]]
    (path,) = inference.run(inference.parse(args))
    portrait, frames = read_image(ROOT / "data/demo/portrait.png"), list(read_frames(path))
    assert len(frames) == 13 and frames[0].shape == portrait.shape
    # an untrained network leaves the composite as it is, and its mark and codec change little
    assert np.abs(frames[0].astype(int) - portrait).mean() < 6
    assert "--renderer_dir" in fails(capsys, *argv, "--name", "b", "--renderer_dir", folder / "renderer")


def test_threads_change_nothing_and_pass_errors_on(folder):
    person = Person.load(folder, read_frames)
    drawer = PersonDrawer(person, checkpoint.load(person.renderer), {"_face": False})
    motion = made_motion(7)
    one, two = (list(drawer.again(n_ahead).draw(motion)) for n_ahead in (0, 2))
    assert len(one) == 7 and all(np.array_equal(a[0], b[0]) for a, b in zip(one, two, strict=True))

    def broken():
        yield 1
        raise ValueError("no more")

    got = beside(broken(), 1)
    assert next(got) == 1
    with pytest.raises(ValueError, match="no more"):
        next(got)


def test_what_cannot_be_is_said(folder, sound, tmp_path, capsys):
    made_person(tmp_path / "berta")
    rest = ["--driven_audio", sound, "--result_dir", tmp_path]
    assert "personalize.sh" in fails(capsys, "--person", tmp_path / "none", *rest)
    assert "no renderer was trained" in fails(
        capsys, "--person", tmp_path / "berta", "--renderer", "neural_texture", *rest
    )
    portrait = ["--source_image", ROOT / "data/demo/portrait.png", *rest]
    assert "--person" in fails(capsys, *portrait, "--renderer", "neural_texture")
    assert "--ref_pose" in fails(capsys, *portrait, "--pose", "from_video")
    assert "leave out" in fails(capsys, *portrait, "--still", "--pose", "generated")
    assert "own" in fails(capsys, *portrait, "--style_clip", "own")
    assert "required" in fails(capsys, *rest)


def test_poses_beyond_the_clip_are_held_back_softly():
    low, high = np.zeros(2), np.full(2, 2.0)
    pose = np.array([[1.0, 0.0], [2.1, -0.1], [50.0, -50.0]])
    held = softly_within(pose, low, high, 0.2)
    assert np.array_equal(held[0], pose[0])
    assert 2 < held[1, 0] < 2.1 and -0.1 < held[1, 1] < 0
    assert np.abs(held[2] - [2.4, -0.4]).max() < 1e-9
