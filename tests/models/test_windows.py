"""Windows: every frame counts once, pieces equal the whole."""

import pytest
import torch

from models.windows import WindowError, in_chunks, in_windows, overlap_add, pad_rows, window_weights

LENGTHS = (1, 5, 31, 32, 33, 40, 41, 2000)


@pytest.mark.parametrize("n_frames", LENGTHS)
def test_every_frame_has_the_same_total_weight(n_frames):
    starts, weights = window_weights(n_frames, 32, 8)
    assert (weights >= 0).all() and starts[0] == 0 and starts[-1] == max(n_frames - 32, 0)
    ones = torch.ones(len(starts), 32, 1, dtype=torch.float64)
    torch.testing.assert_close(
        overlap_add(ones, starts, weights, n_frames), torch.ones(n_frames, 1, dtype=torch.float64)
    )


@pytest.mark.parametrize("n_frames", LENGTHS)
@pytest.mark.parametrize("way", [in_windows, in_chunks])
def test_a_network_that_returns_its_even_rows_gives_back_the_clip(n_frames, way):
    rows = torch.randn(2 * n_frames, 3)
    out = way(lambda x: {"y": x["a"][:, 8:-8:2]}, {"a": rows}, n_frames, 4)["y"]
    torch.testing.assert_close(out, rows[::2])


def test_windows_fade_into_each_other():
    """One window says 0, the next 1: between them the answer rises without a step."""
    seen = []

    def network(x):
        n = len(x["a"])
        out = torch.arange(len(seen), len(seen) + n).float()[:, None, None].expand(n, 32, 1)
        seen.extend(range(n))
        return {"y": out}

    out = in_windows(network, {"a": torch.zeros(2 * 64, 1)}, 64, 4, window=32, stride=16)["y"][:, 0]
    assert out[0] == 0 and out[-1] == 2 and out.diff().min() >= -1e-6 and out.diff().max() < 0.15


def test_chunk_size_changes_nothing():
    kernel = torch.randn(1, 1, 9)

    def network(x):
        return {"y": torch.conv1d(x["a"].transpose(1, 2), kernel, padding=4, stride=2).transpose(1, 2)[:, 2:-2]}

    rows = torch.randn(2 * 333, 1)
    whole = in_chunks(network, {"a": rows}, 333, 2, chunk=1000)["y"]
    for chunk in (1, 7, 100, 332, 333):
        torch.testing.assert_close(in_chunks(network, {"a": rows}, 333, 2, chunk)["y"], whole)


def test_rows_are_cut_or_repeated_to_the_frames():
    rows = torch.arange(7.0)[:, None]
    assert pad_rows(rows, 3, 1)[:, 0].tolist() == [0, 0, 0, 1, 2, 3, 4, 5, 5, 5]
    assert pad_rows(rows, 4, 1)[:, 0].tolist() == [0, 0, 0, 1, 2, 3, 4, 5, 6, 6, 6, 6]
    with pytest.raises(WindowError, match="longer audio"):
        pad_rows(rows[:0], 3, 1)
