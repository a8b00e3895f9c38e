"""The person folder: what is saved comes back, frames come in any order, and what does not belong together is refused."""

import json

import numpy as np
import pytest

from data_process.video import read_frames
from deep_3drecon.assets import hash_file
from deep_3drecon.atlas import PersonTexture, TextureError
from models import person as persons
from models.person import Person, PersonError
from tests.made_person import N_FRAMES, made_person, made_texture


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people") / "anna"
    made_person(folder)
    return folder


def test_what_is_saved_comes_back(folder):
    one = made_person(folder.parent / "berta")
    two = Person.load(folder.parent / "berta", read_frames)
    assert (
        two.name == "berta" and two.learning == (0, 32) and two.about["source"] == "film.mp4" and two.renderer is None
    )
    assert np.array_equal(one.track.coeff, two.track.coeff) and np.array_equal(one.texture.colour, two.texture.colour)
    assert np.allclose(one.style.vector(), two.style.vector(), rtol=1e-6)
    assert two.about["clip_sha256"] == hash_file(two.clip) and two.behaviour is None
    assert not list(two.folder.glob("*.part*"))


def test_a_texture_comes_back_with_its_mouth(tmp_path):
    one = made_texture()
    one.save(tmp_path / "a.npz")
    two = PersonTexture.load(tmp_path / "a.npz")
    places = np.random.default_rng(0).uniform(-0.3, 0.3, (5, 2))
    for name, layer in one.mouth.layers.items():
        assert all(
            np.array_equal(a, b) for a, b in zip(layer.at(places), two.mouth.layers[name].at(places), strict=True)
        )
    one.mouth = None
    one.save(tmp_path / "b.npz")
    assert PersonTexture.load(tmp_path / "b.npz").mouth is None
    (tmp_path / "c.npz").write_bytes(b"no")
    with pytest.raises(TextureError, match="c.npz"):
        PersonTexture.load(tmp_path / "c.npz")


@pytest.mark.parametrize("order", [range(N_FRAMES), range(N_FRAMES - 1, -1, -1), [73, 0, 16, 15, 73, 79, 2], [], None])
def test_frames_come_as_asked(folder, order, monkeypatch):
    monkeypatch.setattr(persons, "CACHE_BYTES", 1)  # two blocks are always kept
    person = Person.load(folder, read_frames)
    wanted = list(range(N_FRAMES) if order is None else order)
    shown = [frame[20:, 20:].mean() for frame in person.frames(order)]
    assert np.allclose(shown, 3 * np.array(wanted), atol=1.4)
    assert len(person._blocks) <= 2


def test_running_back_and_forth_reads_each_block_once(folder):
    calls = []

    def reader(*args, **kwargs):
        calls.append(kwargs["start"])
        return read_frames(*args, **kwargs)

    person = Person.load(folder, reader)
    for order in (range(N_FRAMES), range(N_FRAMES - 1, -1, -1)):
        list(person.frames(order))
    assert len(calls) == 5


def test_shared_frames_cannot_be_changed(folder):
    frame = next(Person.load(folder, read_frames).frames([3]))
    with pytest.raises(ValueError, match="read-only"):
        frame[0] = 0


def test_what_is_wrong_is_said(folder, tmp_path):
    with pytest.raises(PersonError, match="personalize.sh"):
        Person.load(tmp_path)
    with pytest.raises(PersonError, match="80"):
        next(Person.load(folder, read_frames).frames([80]))
    with pytest.raises(PersonError, match="reader"):
        next(Person.load(folder).frames([0]))
    person = made_person(tmp_path / "clara")
    (tmp_path / "clara/atlas.npz").write_bytes(b"cut")
    with pytest.raises(PersonError, match="damaged.*atlas"):
        Person.load(tmp_path / "clara")
    person.save(tmp_path / "clara")
    about = json.loads((tmp_path / "clara/person.json").read_text())
    (tmp_path / "clara/person.json").write_text(json.dumps(about | {"format": "other"}))
    with pytest.raises(PersonError, match="format"):
        Person.load(tmp_path / "clara")


def test_another_face_model_is_refused(tmp_path):
    person = made_person(tmp_path / "dora")
    person.track.face_model_hash = "0" * 64
    person.save(tmp_path / "dora")
    with pytest.raises(PersonError, match="face model"):
        Person.load(tmp_path / "dora")
