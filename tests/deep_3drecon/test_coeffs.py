import numpy as np
import pytest
import torch

from deep_3drecon.coeffs import BFM_LAYOUT, OPEN_LAYOUT, PARTS, VECTORS, join_vector, split_vector


def test_bfm_slices_are_those_of_the_papers():
    parts = BFM_LAYOUT.split(np.arange(257))
    bounds = {name: (int(value[0]), int(value[-1]) + 1) for name, value in parts.items()}
    assert bounds == {
        "id": (0, 80), "exp": (80, 144), "tex": (144, 224), "angle": (224, 227), "gamma": (227, 254), "trans": (254, 257),
    }  # fmt: skip


@pytest.mark.parametrize("layout", [BFM_LAYOUT, OPEN_LAYOUT])
def test_join_inverts_split(layout):
    vector = np.random.default_rng(0).normal(size=(4, layout.size)).astype(np.float32)
    assert np.array_equal(layout.join(**layout.split(vector)), vector)
    assert torch.equal(layout.join(**layout.split(torch.from_numpy(vector))), torch.from_numpy(vector))


def test_missing_parts_are_zero_and_wrong_ones_refused():
    joined = OPEN_LAYOUT.join(exp=np.ones((3, 52), np.float32))
    assert joined.shape == (3, OPEN_LAYOUT.size) and joined.sum() == 3 * 52
    with pytest.raises(ValueError, match="exp: 64 numbers came, 52"):
        OPEN_LAYOUT.join(exp=np.ones((3, 64)))
    with pytest.raises(ValueError, match=str(PARTS[0])):
        OPEN_LAYOUT.join(expression=np.ones((3, 52)))
    with pytest.raises(ValueError, match="257 numbers came"):
        OPEN_LAYOUT.split(np.ones(257))


def test_derived_vectors_lie_as_in_the_papers():
    bounds = {}
    for kind, sizes in VECTORS.items():
        parts = split_vector(np.arange(sum(sizes.values())), kind)
        bounds[kind] = {name: (int(value[0]), int(value[-1]) + 1) for name, value in parts.items()}
    pose = {"exp": (0, 64), "angle": (64, 67), "trans": (67, 70)}
    assert bounds["exp_pose"] == pose and bounds["pirender"] == pose | {"crop": (70, 73)}
    assert bounds["headpose"] == pose | {"shift": (70, 72), "source_frame": (72, 73)}
    assert bounds["pirender_store"]["crop"] == (257, 260) and bounds["bfm"]["trans"] == (254, 257)


@pytest.mark.parametrize("kind", VECTORS)
def test_join_vector_inverts_split_vector(kind):
    vector = np.random.default_rng(1).normal(size=(5, sum(VECTORS[kind].values()))).astype(np.float32)
    assert np.array_equal(join_vector(kind, **split_vector(vector, kind)), vector)
    tensor = torch.from_numpy(vector)
    assert torch.equal(join_vector(kind, **split_vector(tensor, kind)), tensor)


def test_vectors_of_other_lengths_and_kinds_are_refused():
    with pytest.raises(ValueError, match="pirender: 70 numbers came, 73"):
        split_vector(np.zeros((2, 70)), "pirender")
    with pytest.raises(ValueError, match="available: exp_pose"):
        split_vector(np.zeros((2, 70)), "sadtalker")
    with pytest.raises(ValueError, match="'crop': 3"):
        join_vector("pirender", exp=np.zeros((2, 64)), angle=np.zeros((2, 3)), trans=np.zeros((2, 3)))
