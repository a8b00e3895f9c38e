"""Made people: the atlas by its own rules, the picture by a face detector that knows nothing of how it was made."""

import numpy as np
import pytest
import torch

from data_process.landmarks import FaceLandmarker
from deep_3drecon import camera
from deep_3drecon.face_model import load_face_model
from deep_3drecon.landmarks import LANDMARKS_68, interocular
from deep_3drecon.made_noise import noise, spots
from deep_3drecon.made_portrait import portrait_affine, render_portrait
from deep_3drecon.made_scene import Light, seen_light, sphere
from deep_3drecon.made_skin import Texels, linear, made_look, made_skin, skin_colour, to_srgb

SIZE = 512
SEEDS = (9, 10, 6)


@pytest.fixture(scope="module")
def head():
    return load_face_model("open")


@pytest.fixture(scope="module")
def texels(head):
    return Texels(head, SIZE)


@pytest.fixture(scope="module")
def atlases(head):
    return {seed: made_skin(head, seed, SIZE) for seed in SEEDS}


def near(texels, part, point, radius):
    """Texels (n,) of a part within a radius (dm) of a place on the mean head."""
    return texels.is_part(part) & (np.linalg.norm(texels.place - np.float32(point), axis=1) < radius)


def mean_colour(atlas, texels, chosen):
    return linear(atlas[texels.row[chosen], texels.column[chosen]]).mean(0)


def redness(colour):
    return colour[0] / colour.mean()


def test_a_seed_makes_one_atlas_and_another_seed_another(head, atlases):
    assert np.array_equal(made_skin(head, SEEDS[0], SIZE), atlases[SEEDS[0]])
    assert np.array_equal(made_skin(head, made_look(SEEDS[0]), SIZE), atlases[SEEDS[0]])
    assert np.abs(atlases[SEEDS[0]].astype(int) - atlases[SEEDS[1]]).mean() > 10


def test_every_texel_is_painted(atlases, texels):
    assert 0.4 < texels.mask.mean() < 0.9
    for atlas in atlases.values():
        assert atlas.shape == (SIZE, SIZE, 3) and atlas.dtype == np.uint8
        face = texels.is_part("skin") & (texels.place[:, 2] > 0) & (texels.place[:, 1] < 0.7)
        assert (atlas[texels.row[face], texels.column[face]].max(1) > 5).all()
        assert atlas.max(-1).min() > 0  # the gaps between the islands too


def test_lips_are_redder_than_cheeks_and_sclera_is_bright(atlases, texels):
    cheek, lip = near(texels, "skin", (0.35, -0.1, 0.2), 0.15), near(texels, "skin", (0, -0.44, 0.37), 0.05)
    white = texels.is_part("eyes") & (texels.place[:, 2] < 0.15) & (texels.place[:, 2] > 0.06)
    assert min(cheek.sum(), lip.sum(), white.sum()) > 30
    for atlas in atlases.values():
        cheek_colour, lip_colour = mean_colour(atlas, texels, cheek), mean_colour(atlas, texels, lip)
        assert redness(lip_colour) > 1.05 * redness(cheek_colour)
        sclera = mean_colour(atlas, texels, white)
        assert sclera.min() > 0.25 and redness(sclera) < 1.35
        pupil = near(texels, "eyes", (0.29, 0.29, 0.2), 0.017)
        assert mean_colour(atlas, texels, pupil).max() < 0.2 * sclera.min()


def test_colour_runs_on_across_the_seams(head, atlases):
    """Doubled vertices of the outer skin have one place, so one colour, whichever island they are read from."""
    atlas = linear(atlases[SEEDS[0]])
    doubled = np.flatnonzero(head.weld != np.arange(head.n_vertices))
    neck = np.intersect1d(doubled, head.regions["neck"])
    assert len(neck) > 10

    def read(ids):
        uv = head.uv[ids]
        row = np.clip(((1 - uv[:, 1]) * SIZE).astype(int), 0, SIZE - 1)
        return atlas[row, np.clip((uv[:, 0] * SIZE).astype(int), 0, SIZE - 1)]

    assert np.abs(np.log(read(neck) / read(head.weld[neck]))).mean() < 0.1


def test_tones_run_from_fair_to_dark():
    tones = skin_colour(np.linspace(0, 6, 25))
    assert (np.diff(tones, axis=0) < 0).all() and (np.diff(tones, axis=1) < 0).all()
    assert np.allclose(to_srgb(linear(np.arange(256))) * 255, np.arange(256), atol=0.01)


def test_noise_is_fixed_in_space():
    points = np.random.default_rng(0).normal(size=(2000, 3)).astype(np.float32)
    values = noise(points, 5, 1, 3)
    assert np.array_equal(values[::-1], noise(points[::-1], 5, 1, 3))
    assert np.abs(values - noise(points + 1e-4, 5, 1, 3)).max() < 0.02 < np.abs(values - noise(points, 5, 2, 3)).mean()
    assert np.abs(values).max() <= 1 and abs(values.mean()) < 0.05
    assert (spots(points, 5, 1, share=0.0) == 0).all() and (spots(points, 5, 1) > 0).mean() > 0.05


def test_a_lid_hides_the_lamp_and_nothing_else_does():
    """A small roof over a floor: the floor's middle is in its shadow, a corner far away is not."""
    floor = np.float32([[-3, -1, -3], [3, -1, -3], [3, -1, 2], [-3, -1, 2], [0, -1, -0.5]])
    roof = np.float32([[-0.8, 0, -1.3], [0.8, 0, -1.3], [0.8, 0, 0.3], [-0.8, 0, 0.3]])
    triangles = np.int32([[0, 4, 1], [1, 4, 2], [2, 4, 3], [3, 4, 0], [5, 7, 6], [5, 8, 7]])
    normals = np.tile(np.float32([0, 1, 0]), (9, 1))
    sky, lamp = seen_light(np.concatenate([floor, roof]), normals, triangles, Light(lamp=(0, 1, 0.05), spread=0.2))
    assert lamp[4] < 0.05 and lamp[2] > 0.95 and (lamp[5:] > 0.95).all()
    assert sky[4] < 0.75 < 0.9 < sky[2]
    assert np.allclose(np.linalg.norm(sphere(40), axis=1), 1, atol=1e-5) and np.abs(sphere(40).mean(0)).max() < 0.05


@pytest.mark.parametrize("seed", SEEDS)
def test_the_detector_finds_the_face_where_the_model_has_it(head, atlases, seed):
    identity = torch.from_numpy(np.random.default_rng(seed).normal(0, 0.5, 80).astype(np.float32))
    exp, angle, affine = torch.zeros(52), torch.tensor([0.02, 0.12 * (seed - 9) / 3, 0.03]), portrait_affine(384)
    picture = render_portrait(head, identity, exp, angle, atlases[seed], 384, look=made_look(seed))
    assert picture.shape == (384, 384, 3) and picture.dtype == np.uint8
    face = FaceLandmarker().image(picture)
    assert face.presence > 0.9 and face.n_faces == 1
    posed = camera.pose(head.vertices(identity, exp), angle, torch.zeros(3))
    true = camera.apply_affine(camera.project(head.landmarks(posed)), affine).numpy()
    error = np.linalg.norm(face.points[LANDMARKS_68, :2] - true[LANDMARKS_68], axis=1) / interocular(true)
    assert (
        error.mean() < 0.06 and np.median(error[17:]) < 0.03
    )  # the outline of the jaw is vague, brows to lips are not


def test_the_backdrop_the_crop_and_the_samples_are_as_asked(head, atlases):
    rest = np.zeros(80), np.zeros(52), np.zeros(3)
    backdrop = np.full((64, 64, 3), (30, 160, 60), np.uint8)
    picture = render_portrait(head, *rest, atlases[9], 128, background=backdrop, samples=1)
    assert picture[2, 2, 1] > 1.5 * picture[2, 2, [0, 2]].max()
    finer = render_portrait(head, *rest, atlases[9], 128, background=backdrop, samples=3)
    assert np.abs(picture.astype(int) - finer).mean() < 6
    close = render_portrait(head, *rest, atlases[9], 128, background=backdrop, affine=portrait_affine(128, 120))
    middle = close[32:96, 32:96].astype(int)
    assert (middle[..., 1] > 1.5 * middle[..., 0]).mean() < 0.01  # nothing of the green backdrop so near
