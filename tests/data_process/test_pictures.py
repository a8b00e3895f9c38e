"""Windows of pictures: crops that lie where the coefficients say, sources that are other frames, the same batches each time."""

import json

import numpy as np
import pytest
import torch

import configs
from data_process.batches import open_dataset
from data_process.pictures import (
    BATCH,
    GAP,
    Footage,
    PictureWindows,
    crop_state,
    cut_square,
    head_square,
    people_folders,
    square_affine,
)
from data_process.schema import StoreError
from deep_3drecon import camera
from deep_3drecon.face_model import load_face_model
from tests.made_person import N_FRAMES, made_person, made_track

SIZE = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("people") / "film"
    made_person(path)
    return path


@pytest.fixture(scope="module")
def person(folder):
    return Footage.load(folder, SIZE, 1.5)


def test_items_hold_what_the_table_says(person):
    batch = torch.utils.data.default_collate([PictureWindows([person], n_frames=3)[k] for k in (0, 4)])
    assert set(batch) == {name.strip() for names in BATCH for name in names.split(",")}
    assert batch["pictures"].shape == (2, 3, 3, SIZE, SIZE) and batch["pictures"].dtype == torch.uint8
    assert batch["affine"].shape == (2, 3, 2, 3) and batch["points"].shape == (2, 3, 68, 2)
    assert batch["source"].shape == (2, 3, SIZE, SIZE) and batch["source_exp"].shape == (2, 52)


def test_a_square_is_cut_where_its_affine_says():
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (80, 90, 3), dtype=np.uint8)
    assert np.array_equal(cut_square(frame, (9.5, 4.5, 64.0), 64), frame[5:69, 10:74])
    half = cut_square(frame, (9.5, 4.5, 64.0), 32)
    assert np.abs(half[3, 4].astype(int) - frame[11:13, 18:20].mean((0, 1))).max() <= 1
    assert np.allclose(square_affine((9.5, 4.5, 64.0), 32) @ [18.5, 11.5, 1], [4, 3])


def test_landmarks_and_heads_land_in_the_crop(person):
    track, model = made_track(), load_face_model("open")
    square = head_square(track, model, 1.5)
    state = crop_state(track, square, 100)
    to_crop = square_affine(square, 100)
    posed = camera.pose(model.mean, *(torch.from_numpy(track.parts()[n][7]) for n in ("angle", "trans")))
    through = camera.apply_affine(camera.project(posed), torch.from_numpy(state["affine"][7]))
    source = camera.apply_affine(camera.project(posed), camera.invert_affine(torch.from_numpy(track.crop[7])))
    assert np.allclose(through, source.numpy() @ to_crop[:, :2].T + to_crop[:, 2], atol=1e-2)
    head = through.numpy()[model.regions["face"]]
    assert head.min() > 0 and head.max() < 100


def test_sources_are_distant_learning_frames_and_follow_seed_and_epoch(person):
    windows = PictureWindows([person], n_frames=2, seed=1)
    first = [windows.source_of(k) for k in range(len(windows))]
    assert first == [windows.source_of(k) for k in range(len(windows))]
    for (_, start), source in zip(windows.items, first, strict=True):
        assert source in windows.learnt[0]
        assert abs(source - start) >= GAP or len(windows.learnt[0]) < 2 * GAP
    windows.set_epoch(1)
    assert first != [windows.source_of(k) for k in range(len(windows))]


def test_validation_and_held_out_frames_are_never_learnt_from(person):
    train, val = (PictureWindows([person], split, n_frames=2) for split in ("train", "val"))
    assert person.learning == (0, 32)
    last = max(start for _, start in train.items) + 1
    assert last < min(start for _, start in val.items) and max(start for _, start in val.items) + 1 < 32
    assert max(train.learnt[0]) == last and max(val.source_of(k) for k in range(len(val))) <= last


def test_windows_do_not_cross_cuts_or_lost_frames(folder, tmp_path):
    about = json.loads((folder / "person.json").read_text())
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()) if path.is_file() else None
    (tmp_path / "person.json").write_text(json.dumps(about | {"cuts": [10]}))
    person = Footage.load(tmp_path, SIZE, 1.5)
    person.valid[20] = False
    starts = {start for _, start in PictureWindows([person], n_frames=2).items}
    assert 8 in starts and 10 in starts and not starts & {9, 19, 20}


def test_the_loop_opens_them_by_kind(folder):
    data = configs.DataConfig(lmdb=str(folder.parent), window_frames=2, picture_size=SIZE)
    train = open_dataset("pictures", data, "train", 0)
    assert train.about()["size"] == SIZE and train.about()["n_people"] == 1
    assert len(train.people[0]) == N_FRAMES
    assert open_dataset("pictures", data, "val", 0).people[0] is train.people[0]


def test_a_folder_without_people_is_refused(tmp_path):
    with pytest.raises(StoreError, match="no person folder"):
        people_folders(tmp_path)
    (tmp_path / "person.json").write_text("{}")
    with pytest.raises(StoreError, match="no person folder"):
        Footage.load(tmp_path, SIZE, 1.5)
