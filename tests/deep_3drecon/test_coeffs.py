import numpy as np
import pytest
import torch

from deep_3drecon.coeffs import BFM_LAYOUT, OPEN_LAYOUT, PARTS


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
