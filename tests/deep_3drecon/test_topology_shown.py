"""How our head is shown: made vertices move with the mesh, eyes look where they are turned, the neck ends in a plane."""

import numpy as np
import pytest
import torch

from deep_3drecon.face_model import load_face_model
from deep_3drecon.topology import load_topology
from deep_3drecon.topology_film import MeshFilm
from deep_3drecon.topology_shown import _above_cut, plain, show


@pytest.fixture(scope="module")
def face():
    return load_face_model("open")


@pytest.fixture(scope="module")
def shown():
    return show(load_topology("open"))


def posed(face, **weights):
    """(V, 3) of the head in some expressions."""
    exp = torch.zeros(52)
    for name, weight in weights.items():
        exp[face.index(name)] = weight
    return face.vertices(torch.zeros(80), exp).numpy()


def test_made_vertices_are_means_and_move_with_the_mesh(face, shown):
    assert np.allclose(shown.weights.sum(1), 1, atol=1e-6) and shown.weights.min() >= 0
    moved = face.mean.numpy() @ np.diag([1.1, 0.9, 1.0]).astype(np.float32) + [0.1, 0, 0.2]
    wanted = shown.vertices(face.mean.numpy()) @ np.diag([1.1, 0.9, 1.0]) + [0.1, 0, 0.2]
    assert np.abs(shown.vertices(moved) - wanted).max() < 1e-5
    targets = np.random.default_rng(0).normal(size=(3, 5070, 3)).astype(np.float32)
    assert np.array_equal(shown.vertices(targets)[1], shown.vertices(targets[1]))


def test_the_neck_ends_in_a_plane_and_the_rest_of_the_surface_is_whole(face, shown):
    rest = shown.vertices(face.mean.numpy())
    faces = face.weld[face.triangles]

    def area(points, triangles):
        a, b, c = points[triangles].transpose(1, 0, 2)
        return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2

    height = _above_cut(rest)
    assert height.min() > -1e-6 and shown.opacity[height < 1e-3].max() < 1e-3 and shown.opacity[height > 0.3].min() == 1
    above = _above_cut(face.mean.numpy())[faces].min(1) >= 0
    whole = area(face.mean.numpy(), faces[above]).sum()
    assert whole < area(rest, shown.faces).sum() < whole + area(face.mean.numpy(), faces[~above]).sum()
    # the rim: edges of one face only, of which the skin had none but at the neck
    edges = np.sort(np.concatenate([shown.faces[:, pair] for pair in ((0, 1), (1, 2), (2, 0))]), 1)
    ends, count = np.unique(edges, axis=0, return_counts=True)
    low = ends[(count == 1) & (height[ends] < 0.01).all(1)]
    assert len(low) > 40 and np.abs(height[low]).max() < 1e-6


def pupils(face, mesh, film):
    """Columns of the dark pixels on the viewer's left and right half of the eyes' rows."""
    frame = film.frame(mesh).astype(float).mean(-1)
    eyes = film.scale * (face.mean.numpy()[face.regions["eyeball_left"]].mean(0) - film.centre)
    row = round(film.size * (0.5 - eyes[1] / 2.2))
    dark = frame[row - 8 : row + 8] < 60
    half = film.size // 2
    return [np.flatnonzero(part.any(0)).mean() for part in (dark[:, :half], dark[:, half:])]


def test_eyes_have_pupils_that_turn_with_the_gaze(face, shown):
    film = MeshFilm(shown, face.mean.numpy(), size=400)
    ahead = pupils(face, posed(face), film)
    aside = pupils(face, posed(face, eyeLookOutLeft=1.0, eyeLookInRight=1.0), film)
    moved = np.subtract(aside, ahead)
    assert np.abs(moved).min() > 2 and moved[0] * moved[1] > 0, "both to the same side"


def test_gaze_as_morph_targets_is_the_turn_to_first_order(face):
    basis = face.gaze_basis()
    for name in ("eyeLookOutLeft", "eyeLookUpRight"):
        exp = torch.zeros(52)
        exp[face.index(name)] = 0.3
        turned = face.vertices(torch.zeros(80), exp) - face.mean - face.exp_basis @ exp
        linear = torch.einsum("k,kvc->vc", exp, basis)
        assert (
            linear.norm(dim=1).max() > 0.005 and (turned - linear).norm(dim=1).max() < 0.06 * turned.norm(dim=1).max()
        )


def test_other_faces_are_shown_as_they_are():
    corners = np.eye(4, 3, dtype=np.float32)
    shown = plain([[0, 1, 2], [0, 2, 3]], 4)
    assert np.array_equal(shown.vertices(corners), corners) and shown.opacity.min() == 1
