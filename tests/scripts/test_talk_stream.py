"""A stream's frames against those of the whole sound: equal bit by bit, for any pieces, portrait and person, and no later than promised."""

from pathlib import Path

import numpy as np
import pytest
import torch

import deepspeech
from data_process.face_tracks import landmarker, track_landmarks
from data_process.video import read_image
from deep_3drecon.face_model import load_face_model
from models import checkpoint
from models.memory_gan import MemoryGan
from models.mesh_renderer import MeshRenderer
from models.neural_texture import NeuralTexture
from models.style import Style
from scripts.inference.draw import PortraitDrawer
from scripts.inference.person import PersonDrawer
from scripts.inference.stream import Head, TalkStream, calibrate, talk
from tests.made_person import made_person, made_track

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "data/checkpoints/default"


@pytest.fixture(scope="module")
def speech():
    return deepspeech.load_audio(ROOT / "data/demo/speech.flac")


@pytest.fixture(scope="module")
def method():
    return checkpoint.load(CHECKPOINT)


@pytest.fixture(scope="module")
def style():
    return Style.load(CHECKPOINT / "styles/lively.json")


@pytest.fixture(scope="module")
def portrait():
    """Function that makes a drawer of the bundled portrait at 128 px."""
    image = read_image(ROOT / "data/demo/portrait.png")
    renderer = MeshRenderer()
    material = renderer.prepare(image, track_landmarks(landmarker().track([image])), size=128, full=False)
    return lambda: PortraitDrawer(renderer, {"": material})


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    """Function that makes a drawer of a person of noise at 64 px, whose network changes the picture."""
    one, renderer = person_and_renderer(tmp_path_factory.mktemp("people") / "anna", NeuralTexture, 64)
    torch.nn.init.normal_(renderer.generator.head.weight, std=0.05)
    return lambda: PersonDrawer(one, renderer, {"_full": True, "_face": False})


@pytest.fixture(scope="module")
def remembering(tmp_path_factory):
    """Function that makes a drawer whose renderer draws 25 frames at a time and remembers."""
    one, renderer = person_and_renderer(tmp_path_factory.mktemp("people") / "berta", MemoryGan, 32)
    renderer.eyes, renderer.memory.written[:] = Brightness(), True
    return lambda: PersonDrawer(one, renderer, {"_full": True, "_face": False})


def person_and_renderer(folder, kind, size):
    """A made person and an untrained renderer of theirs, always the same."""
    one, model = made_person(folder), load_face_model("open")
    torch.manual_seed(0)
    about = {"face_model": model.name, "face_model_hash": model.hash, "size": size, "n_people": 1, "heads": 1.5}
    return one, kind({"preset": "tiny", "dims": {}}, about).eval()


class Brightness:
    """Stands for the frozen network that looks at composites."""

    def key(self, pictures):
        return torch.nn.functional.adaptive_avg_pool2d(pictures, 16).flatten(1).repeat(1, 2)[:, :1280]


def streamed(stream, wav, size):
    """All frames, and the longest time in s that one waited for sound after its own."""
    frames, late, heard = [], 0.0, 0
    for start in range(0, len(wav), size):
        frames += list(stream.push(wav[start : start + size]))
        heard = min(start + size, len(wav))
        late = max(late, heard / 16000 - len(frames) / 25)
    return frames + list(stream.close()), late


@pytest.fixture(scope="module", params=["portrait", "person", "remembering"])
def whole(request, method, style, speech):
    """Function that makes a drawer, calibration, sound, and the frames of the whole sound."""
    drawer, wav = request.getfixturevalue(request.param), speech[16000:35521]
    calibration = calibrate(method, style, drawer(), speech[:32000])
    return drawer, calibration, wav, list(talk(wav, method, style, drawer(), calibration, seed=1))


@pytest.mark.parametrize("size", [640, 7001, 10**6])
def test_pieces_give_the_frames_of_the_whole(method, style, whole, size):
    drawer, calibration, wav, frames = whole
    stream = TalkStream(method, style, drawer(), calibration, seed=1)
    got, late = streamed(stream, wav, size)
    assert len(got) == len(frames) == deepspeech.n_motion_frames(len(wav))
    for views, same in zip(got, frames, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(views, same, strict=True))
    assert any(not np.array_equal(frames[0][-1], views[-1]) for views in frames[1:])
    assert size > 7001 or late <= stream.latency_s + size / 16000


def test_a_head_that_hears_nothing_waits_for_nothing(method, style, speech, portrait):
    calibration = calibrate(method, style, portrait(), speech[:32000])
    track = made_track(7)
    heard, still, copied = (
        TalkStream(method, style, portrait(), calibration, head=head) for head in (Head(), Head(scale=0), Head(track))
    )
    assert still.latency_s == copied.latency_s < heard.latency_s
    wav = speech[16000:24000]
    frames, _ = streamed(copied, wav, 640)
    whole = list(talk(wav, method, style, portrait(), calibration, head=Head(track)))
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(frames, whole, strict=True))
    motion = {"exp": np.zeros((5, 52), np.float32), "angle": np.ones((5, 3)), "trans": np.ones((5, 3))}
    assert not still.head.over(motion, 0)["angle"].any()
    pose = track.parts()["angle"] - track.parts()["angle"].mean(0)
    assert np.allclose(copied.head.over(motion, 4)["angle"], pose[[4, 5, 6, 5, 4]], atol=1e-6)
