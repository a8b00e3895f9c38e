"""FLAME: its pickles through a reader of arrays only, and its jaw against skinning written out."""

import os
import pickle

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from deep_3drecon import flame
from deep_3drecon.face_model import FaceModelError, load_face_model
from deep_3drecon.safe_pickle import Record
from tests.deep_3drecon.stand_ins import flame_like


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "flame"
    return folder, flame_like(folder)


@pytest.fixture(scope="module")
def face(made):
    return load_face_model("flame", made[0])


def skinned(record, shape, expression, pose):
    """Vertices (V, 3) in metres by FLAME's definition; pose (5, 3): rotation vectors of root, neck, jaw, left and right eye."""
    v = record["v_template"] + record["shapedirs"].astype(float) @ np.concatenate([shape, expression])
    joints = record["J_regressor"] @ v
    rotations = Rotation.from_rotvec(pose).as_matrix()
    v = v + record["posedirs"] @ (rotations[1:] - np.eye(3)).ravel()
    world = []
    for k, parent in enumerate((None, 0, 1, 1, 1)):
        local = np.eye(4)
        local[:3, :3] = rotations[k]
        local[:3, 3] = joints[k] - (0 if parent is None else joints[parent])
        world.append(local if parent is None else world[parent] @ local)
    out = np.zeros_like(v)
    for k, matrix in enumerate(world):
        out += record["weights"][:, k : k + 1] * ((v - joints[k]) @ matrix[:3, :3].T + matrix[:3, 3])
    return out


def test_jaw_and_eyes_follow_flames_skinning(made, face):
    rng = np.random.default_rng(0)
    shape, expression = 0.3 * rng.normal(size=300), 0.3 * rng.normal(size=100)
    pose = np.zeros((5, 3))
    pose[2:] = [0.25, 0.05, -0.03], [0.1, 0.3, 0], [-0.1, 0.25, 0.02]
    expected = skinned(made[1], shape, expression, pose)
    exp = torch.from_numpy(np.concatenate([expression, pose[2:].ravel()])).float()
    found = face.vertices(torch.from_numpy(shape).float(), exp).numpy()
    still = skinned(made[1], np.zeros(300), np.zeros(100), np.zeros((5, 3))) * 10
    shift = (face.mean.numpy()[: len(still)] - still).mean(0)
    assert np.abs(found[: len(expected)] - expected * 10 - shift).max() < 1e-4
    assert np.abs(found - face.mean.numpy()).max() > 0.1
    both = face.vertices(torch.zeros(2, 300), torch.stack([exp, 0 * exp]))
    assert torch.allclose(both[1], face.mean, atol=1e-5) and both.shape == (2, face.n_vertices, 3)


def test_names_units_and_place(face):
    assert face.layout.sizes["id"] == 300 and len(face.expression_names) == face.layout.exp == 109
    assert face.expression_names[99:104] == ("exp_99", "jaw_x", "jaw_y", "jaw_z", "eye_left_x")
    head = load_face_model("open")
    assert torch.allclose(face.landmarks(face.mean, 68), head.landmarks(head.mean, 68), atol=0.02)
    assert face.landmark_ids.shape == (478, 3)
    assert face.mean[face.regions["eyeball_left"], 0].min() > 0
    assert len(face.regions["lips"]) > 50 and len(face.regions["teeth_upper"]) == 0


def test_seam_vertices_are_welded(face):
    assert torch.equal(face.mean, face.mean[torch.from_numpy(face.weld)]) and face.n_vertices == len(face.uv)
    assert (
        np.ptp(face.uv[face.triangles][..., 0], axis=1) > 0.5
    ).mean() < 1e-3  # none runs around the back but at the crown
    exp = torch.zeros(109)
    exp[100] = 0.4
    bent = face.vertices(torch.zeros(300), exp)
    assert torch.equal(bent, bent[torch.from_numpy(face.weld)])


def test_npz_of_the_same_arrays_is_the_same_model(made, face, tmp_path):
    np.savez(tmp_path / "flame.npz", **{name: made[1][name] for name in flame.ARRAYS})
    (tmp_path / "landmark_embedding.npy").symlink_to(made[0] / "landmark_embedding.npy")
    assert flame.read(tmp_path / "flame.npz").hash == flame.read(tmp_path).hash == face.hash


def test_without_landmarks_the_model_says_what_it_lacks(made, tmp_path):
    (tmp_path / "generic_model.pkl").symlink_to(made[0] / "generic_model.pkl")
    face = load_face_model("flame", tmp_path)
    with pytest.raises(FaceModelError, match="68 landmarks are asked for, this model has 0"):
        face.landmarks(face.mean, 68)


def test_masks_give_exact_regions(made, tmp_path):
    for name in ("generic_model.pkl", "landmark_embedding.npy"):
        (tmp_path / name).symlink_to(made[0] / name)
    (tmp_path / "FLAME_masks.pkl").write_bytes(pickle.dumps({"lips": np.arange(5, 25), "nose": np.arange(3)}, 2))
    assert flame.read(tmp_path).regions["lips"].tolist() == list(range(5, 25))


class Runs:
    """Pickles as a call of a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "evil",
    [
        lambda path: Runs(os.system, f"touch {path}"),
        lambda path: Runs(eval, f"open({str(path)!r}, 'w')"),
        lambda path: Runs(np.fromfile, str(path)),
        lambda path: Runs(getattr, np.zeros(3), "tofile"),
        lambda path: {"v_template": Runs(np.load, str(path)), "f": np.zeros(3)},
        lambda path: Runs(type, "x", (), {}),
    ],
    ids=["system", "eval", "fromfile", "getattr", "nested", "type"],
)
def test_a_pickle_that_wants_more_than_arrays_is_refused(tmp_path, evil, protocol):
    trace = tmp_path / "trace"
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(pickle.dumps(evil(trace), protocol))
    with pytest.raises(FaceModelError, match="generic_model.pkl: the pickle asks for .* only arrays"):
        load_face_model("flame", tmp_path)
    assert not trace.exists()
    np.save(tmp_path / "landmark_embedding.npy", np.array(evil(trace), dtype=object), allow_pickle=True)
    with pytest.raises(FaceModelError, match="landmark_embedding.npy"):
        flame.read_pickle(tmp_path / "landmark_embedding.npy")


def test_inert_objects_run_nothing(tmp_path):
    """A class of chumpy that is really called, with arguments, becomes a record without code."""
    path = tmp_path / "x.pkl"
    path.write_bytes(b"cchumpy.ch\nanything\n)R.")
    value = flame.read_pickle(path)
    assert isinstance(value, Record) and value.__dict__ == {}
    path.write_bytes(b"\x80\x02ccopy_reg\n_reconstructor\ncnumpy\nndarray\nc__builtin__\nobject\nN\x87R.")
    with pytest.raises(FaceModelError, match="rebuilds"):
        flame.read_pickle(path)


@pytest.mark.parametrize("content", [b"", b"\x80\x02garbage", pickle.dumps([1, 2])])
def test_a_broken_or_other_file_is_named(tmp_path, content):
    (tmp_path / "flame2023.pkl").write_bytes(content)
    with pytest.raises(FaceModelError, match="flame2023.pkl"):
        flame.read(tmp_path)


def test_a_missing_file_is_named_with_its_source(tmp_path, monkeypatch):
    monkeypatch.setenv("IDIOLECT_ASSETS", str(tmp_path))
    with pytest.raises(FaceModelError, match="flame/generic_model.pkl: missing.*flame.is.tue.mpg.de"):
        load_face_model("flame")
