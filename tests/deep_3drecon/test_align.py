import numpy as np
import pytest

from deep_3drecon.align import TEMPLATE, align5, crop_affine, whittaker
from deep_3drecon.camera import rotation_matrix

FOUR_DECIMALS = np.round(TEMPLATE, 4)
GOLDEN = {  # name: (height, five points y down, scale, t y up)
    "frontal": (
        512,
        [(225.0800, 217.7680), (274.7840, 217.8240), (250.2640, 244.6960), (229.8240, 271.5040), (269.8800, 271.5040)],
        1.275000,
        (250, 270),
    ),
    "turned": (
        512,
        [(219.6584, 223.2880), (267.3227, 216.1244), (240.7955, 250.5724), (231.8551, 276.2488), (270.2611, 270.4305)],
        1.2749997,
        (250.000039, 270.000029),
    ),
    "inexact": (
        512,
        [(196, 226), (298, 221), (252, 283), (208, 330), (292, 326)],
        0.636946642,
        (247.256142, 245.667504),
    ),
    "not square": (
        480,
        [(196, 226), (298, 221), (252, 283), (208, 330), (292, 326)],
        0.636946642,
        (247.256142, 213.667504),
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_alignment_golden(name):
    height, points, scale, t = GOLDEN[name]
    found_scale, found_t = align5(np.array(points), height, FOUR_DECIMALS)
    assert found_scale == pytest.approx(scale, rel=1e-6)
    assert found_t == pytest.approx(t, abs=1e-4)


def test_any_scaled_orthographic_view_returns_its_scale_and_place():
    import torch

    rng = np.random.default_rng(0)
    for _ in range(20):
        rotation = rotation_matrix(torch.tensor(rng.uniform(-0.5, 0.5, 3))).numpy()
        s, t = rng.uniform(20, 300), rng.uniform(50, 400, 2)
        up = s * (TEMPLATE @ rotation.T)[:, :2] + t
        scale, found = align5(np.stack([up[:, 0], 511 - up[:, 1]], 1), 512)
        assert 102 / scale == pytest.approx(s, rel=1e-9) and found == pytest.approx(t, abs=1e-7)


def test_crop_puts_the_origin_of_the_template_in_the_middle():
    points = np.array(GOLDEN["inexact"][1], float)
    scale, t = align5(points, 512)
    affine = crop_affine(scale, t, 512)
    middle = affine @ [t[0], 511 - t[1], 1]
    assert middle == pytest.approx([112, 111])
    assert affine[0, 0] == affine[1, 1] == pytest.approx(scale)


def test_whittaker_keeps_lines_and_halves_the_cutoff():
    t = np.arange(200)
    assert whittaker(3 + 0.5 * t, 2.0, 25) == pytest.approx(3 + 0.5 * t)
    wave = np.sin(2 * np.pi * 4 * t / 25)
    gain = whittaker(wave, 4.0, 25)[50:150].std() / wave[50:150].std()
    assert gain == pytest.approx(0.5, abs=0.02)
