"""What the rebuild of the shared face core must show, by item; here is what no other test has.

1  vectors through every reader and writer, 73 numbers by name: test_coeffs, data_process/test_coeff_files
2  rotation, camera, spherical harmonics: test_camera, test_shading; constants here
3  alignment A to D, scale and place recovered: test_align; sizes, corners and landmarks of the published whole-pixel crops here
4  uncrop(crop(x)): here
5  conversion of the Basel files, absent files named: test_bfm; of the regressor: test_bfm_regressor
6  plain and fast rasterizer: test_rasterizer; on whole heads here
7  CPU and GPU: test_face_model, test_reconstructor (with a GPU); the GPU's code path on the CPU here
8  parameters: test_bfm_regressor, models/test_style_avatar
9  no face, several faces, crops beyond the border: test_reconstructor, data_process/test_landmarks
10 metrics: models/test_metrics and its neighbours
"""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.io import savemat

from deep_3drecon import bfm, camera, shading
from deep_3drecon.align import (
    RESCALE,
    TEMPLATE,
    align5,
    crop_affine,
    crop_picture,
    outside_share,
    paste_crop,
    published_crop,
    video_crops,
)
from deep_3drecon.coeffs import BFM_LAYOUT, OPEN_LAYOUT
from deep_3drecon.face_model import load_face_model
from deep_3drecon.landmarks import points5
from deep_3drecon.reconstructor import Reconstructor
from deep_3drecon.shading import sh_shade, vertex_normals
from tests.deep_3drecon.test_bfm import made_arrays

PARITY = Path(__file__).parents[2].parent / "shared" / "parity" / "deep3dface__face_model_synthetic.json"
FOUR_DECIMALS = np.round(TEMPLATE, 4)
INEXACT = [(196, 226), (298, 221), (252, 283), (208, 330), (292, 326)]
# id: frame size, five landmarks y down, pixels to one unit of the template, place (x, y up), size of the resized frame, corner of the crop
ALIGNMENTS = {
    "A": (
        (512, 512),
        [(225.0800, 217.7680), (274.7840, 217.8240), (250.2640, 244.6960), (229.8240, 271.5040), (269.8800, 271.5040)],
        80.000000,
        (250, 270),
        (652, 652),
        (206, 196),
    ),
    "B": (
        (512, 512),
        [(219.6584, 223.2880), (267.3227, 216.1244), (240.7955, 250.5724), (231.8551, 276.2488), (270.2611, 270.4305)],
        80.000017,
        (250.000039, 270.000029),
        (652, 652),
        (206, 196),
    ),
    "C": ((512, 512), INEXACT, 160.139003, (247.256142, 245.667504), (326, 326), (45, 57)),
    "D": ((640, 480), INEXACT, 160.139003, (247.256142, 213.667504), (407, 305), (45, 57)),
}
# the same landmarks in the published crop, y down
IN_PUBLISHED_CROP = {
    "C": [(79.410913, 85.888958), (144.379470, 82.704225), (115.079925, 122.194917)]
    + [(87.054272, 152.131409), (140.557790, 149.583622)],
    "D": [(79.675498, 85.580105), (144.644055, 82.395371), (115.344510, 121.886063)]
    + [(87.318857, 151.822555), (140.822375, 149.274769)],
}


def test_constants_of_the_shading():
    assert (shading.K0, shading.K1, shading.K2) == pytest.approx((0.886226925, 1.772453851, 2.427032391), abs=5e-10)
    assert shading.AMBIENT == 0.8 and pytest.approx(0.708982, abs=5e-7) == shading.K0 * shading.AMBIENT


def test_a_row_is_223_less_the_height():
    """HeadPose samples its texture at 224 less the height, one pixel too low."""
    x, y = camera.project(torch.zeros(1, 3))[0].tolist()
    assert (x, y) == (112, 111)


def test_five_points_of_68():
    points = np.stack([np.arange(68.0), np.arange(68.0) ** 2], 1)
    corners = [((36 + 39) / 2, (36**2 + 39**2) / 2), ((42 + 45) / 2, (42**2 + 45**2) / 2)]
    assert points5(points).tolist() == [list(c) for c in corners] + [[30, 900], [48, 2304], [54, 2916]]


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_alignment_golden(name):
    (width, height), points, size, place, resized, corner = ALIGNMENTS[name]
    scale, t = align5(np.array(points), height, FOUR_DECIMALS)
    assert pytest.approx(size, abs=1e-5) == RESCALE / scale and t == pytest.approx(place, abs=1e-5)
    assert published_crop(scale, t, (width, height)) == (resized, corner)
    # the template's fifth decimal matters: by less than a hundredth of a pixel here
    exact_scale, exact_t = align5(np.array(points), height)
    assert 1e-6 < abs(exact_scale / scale - 1) < 5e-5 and 1e-4 < np.abs(exact_t - t).max() < 1e-2


@pytest.mark.parametrize("name", IN_PUBLISHED_CROP)
def test_landmarks_in_the_published_crop(name):
    """Ours and the published ones differ by what the latter round away, half a pixel at most."""
    (width, height), points, _, _, resized, _ = ALIGNMENTS[name]
    scale, t = align5(np.array(points), height, FOUR_DECIMALS)
    affine = crop_affine(scale, t, height)
    ours = np.array(points) @ affine[:, :2].T + affine[:, 2]
    rounded = np.array([scale * width - resized[0], resized[1] - scale * height]) / 2
    assert ours + rounded == pytest.approx(np.array(IN_PUBLISHED_CROP[name]), abs=1e-5) and np.abs(rounded).max() < 0.5


# ---------------------------------------------------------------------------------------- crop and back

FRAMES = {"square": (512, 512), "wide": (640, 480), "tall": (360, 540)}


def made_frame(size, points):
    """A smooth picture with a soft dot on each point, (H, W, 3) uint8."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    base = 90 + 30 * np.sin(x / 23) + 25 * np.cos(y / 31)
    dots = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 5.0**2)) for px, py in points)
    return np.round(np.stack([base, 0 * x + 128, 230 * dots], -1)).clip(0, 255).astype(np.uint8)


def dots_of(frame, points):
    """Where the soft dots are: centroid of the blue channel within 16 px of each point -> (N, 2)."""
    found = []
    for px, py in np.round(points).astype(int):
        window = frame[py - 16 : py + 17, px - 16 : px + 17, 2].astype(float)
        y, x = np.mgrid[-16:17, -16:17]
        found.append([px + (x * window).sum() / window.sum(), py + (y * window).sum() / window.sum()])
    return np.array(found)


@pytest.mark.parametrize("pixels", [60, 160])
@pytest.mark.parametrize("name", FRAMES)
def test_uncrop_brings_everything_back(name, pixels):
    """A face of 60 px to the template's unit is enlarged by the crop, one of 160 px made smaller."""
    size = FRAMES[name]
    up = TEMPLATE[:, :2] * pixels * [1.03, 0.97] + [0.47 * size[0] + 0.3, 0.55 * size[1] + 0.6]
    points = np.stack([up[:, 0], size[1] - 1 - up[:, 1]], 1)
    frame = made_frame(size, points)
    affine = crop_affine(*align5(points, size[1]), size[1])
    inside = camera.apply_affine(torch.from_numpy(points), torch.from_numpy(affine))
    back = camera.apply_affine(inside, camera.invert_affine(torch.from_numpy(affine))).numpy()
    assert np.abs(back - points).max() < 1e-9
    crop = crop_picture(frame, affine)
    centres = {False: dots_of(frame, points), True: dots_of(paste_crop(crop, affine, np.zeros_like(frame)), points)}
    assert np.abs(centres[True] - centres[False]).max() < 0.05
    if affine[0, 0] > 1:  # where the dots are wide enough to be measured: the crop has them where the affine says
        assert np.abs(dots_of(crop, inside.numpy()) - inside.numpy()).max() < 0.25
    pasted = paste_crop(crop, affine, frame)
    low, high = (np.array([[0, 0], [223, 223]]) - affine[:, 2]) / np.diagonal(affine)
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    within = (x > low[0] + 2) & (x < high[0] - 2) & (y > low[1] + 2) & (y < high[1] - 2)
    beyond = (x < low[0] - 2) | (x > high[0] + 2) | (y < low[1] - 2) | (y > high[1] + 2)
    assert within.sum() > 5000 and beyond.sum() > 5000
    assert np.array_equal(pasted[beyond], frame[beyond])
    error = np.abs(pasted.astype(int) - frame)[within]
    assert error.mean() < 0.7 and error.max() <= 6


def test_a_crop_of_any_size_covers_the_same_square():
    frame = made_frame((640, 480), INEXACT)
    affine = crop_affine(*align5(np.array(INEXACT), 480), 480)
    plain, fine = crop_picture(frame, affine), crop_picture(frame, affine, 448)
    halved = cv2.resize(fine, (224, 224), interpolation=cv2.INTER_AREA)
    assert np.abs(halved.astype(int) - plain).mean() < 0.6
    back = paste_crop(fine, affine, frame)
    assert np.abs(back.astype(int) - frame).max() <= 4


def test_a_mask_blends_the_crop():
    frame = np.full((300, 300, 3), 40, np.uint8)
    affine = crop_affine(1.0, (150.0, 150.0), 300)  # pixel for pixel, 38 to the left and 38 up
    crop, mask = np.full((224, 224, 3), 240, np.uint8), np.zeros((224, 224), np.float32)
    mask[50:100, 60:120], mask[120:160, 60:120] = 1.0, 0.25
    out = paste_crop(crop, affine, frame, mask)
    assert affine[:, 2].tolist() == [-38, -38]
    assert (out[88:138, 98:158] == 240).all() and (out[158:198, 98:158] == 90).all()
    out[88:138, 98:158] = out[158:198, 98:158] = 40
    assert (out == 40).all()


def test_a_fine_pattern_shrinks_to_its_mean():
    """Without averaging, every third row of stripes one pixel wide gives stripes again."""
    frame = np.zeros((900, 900, 3), np.uint8)
    frame[::2] = 200
    crop = crop_picture(frame, crop_affine(1 / 3, (450, 450), 900)).astype(float)
    assert np.abs(crop - 100).max() < 35 and crop.mean() == pytest.approx(100, abs=1)


def test_share_of_a_crop_beyond_the_border():
    whole = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    assert outside_share(whole, (224, 224)) == pytest.approx(0)
    assert outside_share(whole + [[0, 0, 56], [0, 0, 0]], (224, 224)) == pytest.approx(0.25)
    assert outside_share(whole + [[0, 0, 112], [0, 0, -112]], (224, 224)) == pytest.approx(0.75)
    assert outside_share(whole + [[0, 0, 500], [0, 0, 0]], (224, 224)) == pytest.approx(1)
    assert outside_share(np.stack([whole * 2, whole]), (224, 224)) == pytest.approx([0, 0])
    half = np.array([[0.5, 0, 0], [0, 0.5, 0]])
    assert outside_share(half, (224, 448)) == pytest.approx(0.5, abs=0.01)


def test_crops_of_a_video_keep_one_size():
    points = np.array([INEXACT, np.array(INEXACT) * 1.1])
    crops = video_crops(points, 512)
    scale, t = align5(points, 512)
    assert crops[:, 0, 0] == pytest.approx([102 / (102 / scale).mean()] * 2)
    for crop, place in zip(crops, t, strict=True):
        assert crop @ [place[0], 511 - place[1], 1] == pytest.approx([112, 111], abs=1e-3)


# ---------------------------------------------------------------------------------------- the forward pass, and devices


@pytest.mark.skipif(not PARITY.is_file(), reason="../shared/parity absent")
def test_forward_pass_equals_the_whole_parity_file(tmp_path):
    parity = json.loads(PARITY.read_text())
    savemat(tmp_path / bfm.MODEL_FILE, made_arrays())
    face = bfm.read(tmp_path)
    given = parity["inputs"][0]
    wave = given["gain"] * np.sin(0.05 * np.arange(514) + given["seed"])
    parts = BFM_LAYOUT.split(torch.from_numpy(wave.reshape(2, 257)).float())
    shape, rotation = face.vertices(parts["id"], parts["exp"]), camera.rotation_matrix(parts["angle"])
    posed, normals = camera.pose(shape, parts["angle"], parts["trans"]), face.normals(shape)
    texture, pixels = face.texture(parts["tex"]) / 255, camera.project(face.landmarks(posed, 68))
    found = {
        "vertices_camera": posed * torch.tensor([1.0, 1, -1]) + torch.tensor([0, 0, 10.0]),
        "texture_rgb_0_1": texture,
        "shaded_colour_0_1_unclipped": sh_shade(texture, normals @ rotation.transpose(-1, -2), parts["gamma"]),
        "landmarks_image_y_up": torch.stack([pixels[..., 0], 223 - pixels[..., 1]], -1),
        "unposed_shape": shape,
        "unposed_vertex_normals": normals,
        "rotation_applied_from_right": rotation.transpose(-1, -2),
    }
    for wanted in parity["outputs"]:
        flat = found[wanted["name"]].flatten().double()
        tolerance = parity["tolerance"]["float32_atol_by_output"][wanted["name"]]
        assert list(found[wanted["name"]].shape) == wanted["shape"]
        assert flat[wanted["sample_indices"]].tolist() == pytest.approx(wanted["sample_values"], abs=tolerance)
        assert flat[: len(wanted["first_16"])].tolist() == pytest.approx(wanted["first_16"], abs=tolerance)
        ends = [float(flat.min()), float(flat.max()), float(flat.mean())]
        assert ends == pytest.approx([wanted[k] for k in ("min", "max", "mean")], abs=tolerance)


@pytest.mark.parametrize("name", ["open", "bfm"])
def test_the_code_of_the_gpu_gives_the_same_on_the_cpu(name, basel):
    """Normals take the torch path that a GPU takes; pictures the torch rasterizer, whose coverage must agree in 99.5 % of the pixels."""
    face = load_face_model(name, basel.folder if name == "bfm" else None)
    rng = np.random.default_rng(4)
    layout = BFM_LAYOUT if name == "bfm" else OPEN_LAYOUT
    vector = layout.join(
        id=rng.normal(0, 0.5, (1, 80)),
        exp=rng.uniform(0, 0.2, (1, layout.exp)),
        angle=np.array([[0.1, 0.4, 0.05]]),
        gamma=rng.normal(0, 0.05, (1, 27)),
    ).astype(np.float32)
    parts = {k: torch.from_numpy(v) for k, v in layout.split(vector).items()}
    shape = face.vertices(parts["id"], parts["exp"])
    on_gpu_path = vertex_normals(shape.clone().requires_grad_(), face.triangles, face.weld).detach()
    difference = (on_gpu_path - face.normals(shape)).abs().amax(-1)
    # faces next to no area, of which the stand-in has some, have no direction to agree upon
    assert (difference > 1e-3).float().mean() < (0.01 if name == "bfm" else 1e-6) and difference.median() < 1e-6
    fast, plain = Reconstructor(face), Reconstructor(face, backend="torch")
    (uv, bg), (plain_uv, plain_bg) = (
        maker.recon_uv_from_coeff(vector, return_background=True, size=48) for maker in (fast, plain)
    )
    same = (uv[..., 0] >= 0) == (plain_uv[..., 0] >= 0)
    assert same.mean() > 0.995 and (bg == plain_bg).mean() > 0.995 and 0.1 < (uv[..., 0] >= 0).mean() < 0.9
    assert np.quantile(np.abs(uv - plain_uv)[same], 0.995) < 1e-3
    pictures = [maker.recon_video_from_coeff_notex(vector, size=48).astype(int) for maker in (fast, plain)]
    assert np.quantile(np.abs(pictures[0] - pictures[1])[same], 0.995) <= 1
