"""Windows and clips out of a store. Made features count rows, so a place in time can be read off every value."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from data_process import schema
from data_process.dataset import ClipDataset, ClipReader, WindowDataset
from data_process.schema import StoreError
from data_process.store import Store
from deep_3drecon.track import style_statistics
from tests.data_process import made

CLIPS = [
    ("a", "train", "bob", 90, (40, 41)),
    ("b", "train", "ann", 40, ()),
    ("c", "train", "bob", 10, ()),
    ("d", "val", "eve", 35, (2,)),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return made.store(tmp_path_factory.mktemp("dataset") / "x.lmdb", CLIPS)


def test_keys_shapes_and_types_are_those_of_the_schema(path):
    batch = next(iter(DataLoader(WindowDataset(path, n_frames=32, context=4), batch_size=5)))
    assert set(batch) == set(schema.BATCH)
    shapes = {name: tuple(value.shape) for name, value in batch.items()}
    rows = 2 * (32 + 2 * 4)
    assert shapes == {
        "phonemes": (5, rows, 40), "mel": (5, rows, 40), "energy": (5, rows, 1), "exp": (5, 32, 52), "angle": (5, 32, 3),
        "trans": (5, 32, 3), "id": (5, 80), "style": (5, 170), "valid": (5, 32), "speaker": (5,), "clip": (5,),
    }  # fmt: skip
    for name, value in batch.items():
        expected = {"valid": torch.bool, "speaker": torch.int64, "clip": torch.int64}.get(name, torch.float32)
        assert value.dtype == expected, name


@pytest.mark.parametrize("context", [0, 4])
def test_frames_and_rows_meet_in_time(path, context):
    """Rows 2t and 2t + 1 belong to frame t; outside of the clip the first and last repeat."""
    data = WindowDataset(path, n_frames=32, context=context, stride=7)
    coeff = [made.track(n, seed).parts() for seed, (_, _, _, n, _) in enumerate(CLIPS)]
    starts = set()
    for index in range(len(data)):
        clip, start = data.start(index)
        item, length = data[index], CLIPS[clip][3]
        frames = np.arange(start, start + 32)
        rows = np.arange(2 * (start - context), 2 * (start + 32 + context)).clip(0, 2 * length - 1)
        assert np.array_equal(item["energy"][:, 0].numpy(), 2000 + rows)
        assert np.allclose(item["phonemes"][:, 7].numpy(), rows + 0.07, atol=1e-5)
        for name in ("exp", "angle", "trans"):
            assert np.array_equal(item[name].numpy(), coeff[clip][name][frames.clip(0, length - 1)])
        expected = (frames < length) & ~np.isin(frames, CLIPS[clip][4])
        assert np.array_equal(item["valid"].numpy(), expected)
        assert 0 <= start <= max(0, length - 32) and item["clip"] == clip
        assert item["speaker"] == ["ann", "bob", "eve"].index(CLIPS[clip][2])
        starts.add((clip, start))
    assert {(0, 58), (1, 8), (2, 0)} & starts, "windows reach the end of the clips"


def test_every_window_is_of_its_whole_clips_style(path):
    data = WindowDataset(path, n_frames=32)
    parts = made.track(90, 0, (40, 41)).parts()
    expected = schema.style_vector(style_statistics(parts["exp"], parts["angle"], parts["trans"], 25))
    items = [data[k] for k in range(len(data)) if data.start(k)[0] == 0]
    assert all(np.allclose(item["style"].numpy(), expected, atol=1e-6) for item in items)
    assert all(np.allclose(item["id"].numpy(), parts["id"][0]) for item in items)


def everything(data, **loader):
    batches = list(DataLoader(data, batch_size=4, **loader))
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_and_order_do_not_change_a_window(path, context):
    data = WindowDataset(path, seed=3)
    data.set_epoch(2)
    alone = everything(data)  # opens the store and fills the cache in this process, before the workers start
    assert same(alone, everything(data, num_workers=2, multiprocessing_context=context))
    backwards = [WindowDataset(path, seed=3, cache_mb=0)[k] for k in (0, 3)]
    data.set_epoch(0)
    assert all(torch.equal(item["exp"], data[k]["exp"]) for item, k in zip(backwards, (0, 3), strict=True))


def test_seed_and_epoch_move_the_windows_even_in_living_workers(path):
    data = WindowDataset(path, seed=3)
    loader = DataLoader(data, batch_size=64, num_workers=1, persistent_workers=True)
    first = next(iter(loader))
    again = next(iter(loader))
    data.set_epoch(1)
    second = next(iter(loader))
    assert same(first, again) and not torch.equal(first["exp"], second["exp"])
    assert torch.equal(second["exp"], torch.stack([data[k]["exp"] for k in range(len(data))]))
    data.set_epoch(0)
    other = WindowDataset(path, seed=4)
    assert [other.start(k) for k in range(len(data))] != [data.start(k) for k in range(len(data))]


def test_an_epoch_covers_the_clips_by_their_length(path):
    data = WindowDataset(path, n_frames=32, stride=8)
    counts = np.bincount([data.start(k)[0] for k in range(len(data))])
    assert counts.tolist() == [12, 5, 2]
    with pytest.raises(IndexError):
        data[len(data)]


def test_frames_of_the_same_speaker_beside_a_window_are_never_its_own(path):
    data, reader = WindowDataset(path, n_frames=32, context=4, style_frames=20), ClipReader(path, "train")
    plain = WindowDataset(path, n_frames=32, context=4)
    elsewhere = set()
    for epoch in range(3):
        data.set_epoch(epoch)
        plain.set_epoch(epoch)
        for index in range(len(data)):
            item, (clip, start) = data[index], data.start(index)
            assert set(item) == set(schema.BATCH) | set(schema.STYLE_WINDOW) and item["style_exp"].shape == (20, 52)
            assert torch.equal(item["exp"], plain[index]["exp"])  # the window is what it is without
            found = [(k, t) for k in range(3) for t, row in enumerate(reader[k]["exp"])
                     if np.array_equal(row, item["style_exp"][0].numpy())]  # fmt: skip
            ((other, first),) = found
            assert other != clip or clip == 1 or first + 20 <= start or first >= start + 32
            assert data._speaker_of[other] == data._speaker_of[clip]
            elsewhere.add((clip, other))
    # the long clip lends to itself and to the short one of the same speaker; the only one of its speaker has itself
    assert (0, 0) in elsewhere and (2, 0) in elsewhere and {b for a, b in elsewhere if a == 1} == {1}


def test_whole_clips(path):
    data = ClipDataset(path, "val", context=4)
    assert len(data) == 1
    clip = data[0]
    assert clip["name"] == "d" and set(clip) - {"name"} == set(schema.BATCH)
    assert clip["exp"].shape == (35, 52) and clip["mel"].shape == (2 * (35 + 8), 40)
    assert np.flatnonzero(~clip["valid"].numpy()).tolist() == [2]
    assert clip["energy"][:10, 0].tolist() == [2000] * 9 + [2001]
    assert [item["name"] for item in ClipDataset(path, "train")] == ["a", "b", "c"]


def test_the_cache_keeps_within_its_size(path):
    reader = ClipReader(path, "train", cache_mb=0.09)
    sizes = []
    for index in (0, 1, 2, 0, 1, 2):
        clip = reader[index]
        assert len(clip["exp"]) == CLIPS[index][3]
        sizes.append(sum(c["mel"].nbytes for c in reader._cache.values()))
    assert reader._bytes <= 0.09e6 or len(reader._cache) == 1
    assert reader[2] is reader[2], "the last clip is never read twice"


def test_errors_say_what_to_do(path, tmp_path):
    with pytest.raises(StoreError, match="test holds no clip"):
        WindowDataset(path, "test")
    with pytest.raises(StoreError, match="n_frames 0"):
        WindowDataset(path, n_frames=0)
    with made.StoreWriter(tmp_path / "x.lmdb", {}) as writer:
        wrong = made.records(20) | {"mel": schema.pack_array(np.zeros((39, 40), np.float32))}
        writer.add("a", "k", "train", wrong, {"n_frames": 20, "speaker": "ann"})
        writer.finish({"layout": Store(path).meta["layout"], "speakers": ["ann"]}, {})
    with pytest.raises(StoreError, match="20 frames and 39 rows of mel, 40 are needed"):
        WindowDataset(tmp_path / "x.lmdb")[0]
