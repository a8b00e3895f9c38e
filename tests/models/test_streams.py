"""Features of sound, z-scored."""

import numpy as np
import torch

from models.streams import Streams


def test_streams_are_z_scored_in_their_order_and_rare_phones_are_held():
    rng = np.random.default_rng(0)
    rows = {name: 3 + 2 * rng.normal(size=(2, 500, n)) for name, n in (("mel", 4), ("phonemes", 3), ("energy", 1))}
    stats = {name: {"mean": x.mean((0, 1)), "std": x.std((0, 1))} for name, x in rows.items()}
    stats["phonemes"]["std"][1] = 1e-6
    streams = Streams(("phonemes", "mel"), stats)
    assert streams.sizes == {"phonemes": 3, "mel": 4} and not streams.state_dict()
    out = streams({f"style_{name}": torch.from_numpy(x).float() for name, x in rows.items()}, "style_")
    assert list(out) == ["phonemes", "mel"]
    np.testing.assert_allclose(out["mel"].std((0, 1)), 1, atol=0.01)
    np.testing.assert_allclose(out["mel"].mean((0, 1)), 0, atol=1e-5)
    assert 15 < out["phonemes"][..., 1].std() < 25  # 2 in tenths, not in millionths
