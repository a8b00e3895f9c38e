"""The landmarker's error on turned heads: what is learnt is what was there, and the fit takes it off."""

import numpy as np
import torch

from deep_3drecon import camera
from deep_3drecon.align import crop_affine
from deep_3drecon.face_model import load_face_model
from deep_3drecon.fit import N_INDEPENDENT, fit_clip, linear_landmarks
from deep_3drecon.landmark_bias import MOST, bias, features, learn, noise, roll_matrix


def test_a_polynomial_error_is_learnt_whatever_the_roll():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(8, 478, 2))
    angle = rng.uniform(-0.4, 0.4, (300, 3))
    error = np.einsum("tij,tlj->tli", roll_matrix(angle), np.tensordot(features(angle), table, 1))
    assert np.abs(learn(angle, error, ridge=1e-9) - table).max() < 1e-4


def test_roll_turns_the_error_as_it_turns_the_picture():
    angle = torch.tensor([[0.1, 0.5, 0.0], [0.1, 0.5, np.pi / 2]])
    upright, rolled = bias(angle)
    # the head rolled by a quarter turn counter-clockwise: what pointed right in the picture points up, which is -y
    assert torch.allclose(rolled, torch.stack([upright[:, 1], -upright[:, 0]], -1), atol=1e-4)


def test_beyond_the_films_the_error_stays():
    angle = torch.tensor([[MOST[0], MOST[1], 0.0], [1.0, 1.4, 0.0]])
    assert torch.equal(*bias(angle))


def test_the_fit_takes_the_bias_off():
    head, n = load_face_model("open"), 24
    exp = torch.zeros(n, 52)
    yaw = torch.linspace(-0.6, 0.6, n)
    angle = torch.stack([0 * yaw, yaw, 0 * yaw], 1)
    pixels = camera.project(
        camera.pose(head.landmarks(head.vertices(torch.zeros(n, 80), exp)), angle, torch.zeros(n, 3))
    )
    back = camera.invert_affine(torch.from_numpy(crop_affine(0.8, (330, 250), 480)).float())
    points = camera.apply_affine(pixels + bias(angle), back).numpy()
    errors = []
    for known in (None, bias):
        track = fit_clip(points, np.zeros((n, 52)), np.ones(n, bool), (640, 480), 25, head, bias=known)
        errors.append(np.degrees(np.abs(track.parts()["angle"] - angle.numpy())).mean())
    assert errors[1] < 0.5 * errors[0] and errors[1] < 0.6


def test_bad_landmarks_count_less():
    head = load_face_model("open")
    plain, weighed = linear_landmarks(head).weight, linear_landmarks(head, noise()).weight
    assert torch.isclose(weighed.sum(), torch.tensor(N_INDEPENDENT, dtype=torch.float64))
    share = weighed / plain
    assert share[noise().argmax()] < 0.3 * share[noise().argmin()] and noise().shape == (478,)
