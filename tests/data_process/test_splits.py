"""Speakers and splits."""

import json
from pathlib import Path

import pytest

from data_process import splits
from data_process.schema import StoreError

NAMES = [f"s{speaker}_{clip}" for speaker in range(10) for clip in range(5)]
GRID = Path(__file__).parents[2] / "data" / "splits" / "grid_s1.json"


def test_the_committed_list_is_what_its_rule_gives():
    stored = json.loads(GRID.read_text())
    names = [name for part in stored.values() for name in part]
    assert {split: len(part) for split, part in stored.items()} == {"train": 100, "val": 15, "test": 15}
    assert splits.split_by_count(names, 15, 15, seed=1) == stored
    assert splits.split_by_count(names[::-1], 15, 15, seed=1) == stored, "the order of the names must not matter"


def test_speakers_stay_whole_and_shares_are_near():
    speaker_of = {name: name.split("_")[0] for name in NAMES}
    split_of = splits.split_by_speaker(speaker_of, dict.fromkeys(NAMES, 2.0), (0.6, 0.2, 0.2), seed=3)
    by_split = {split: {speaker_of[n] for n, s in split_of.items() if s == split} for split in ("train", "val", "test")}
    assert sorted(len(s) for s in by_split.values()) == [2, 2, 6]
    assert not by_split["train"] & by_split["test"] and not by_split["train"] & by_split["val"]
    other = splits.split_by_speaker(speaker_of, dict.fromkeys(NAMES, 2.0), (0.6, 0.2, 0.2), seed=4)
    assert other != split_of


@pytest.mark.parametrize(
    ("n_speakers", "expected"), [(1, {"train"}), (2, {"train", "test"}), (3, {"train", "val", "test"})]
)
def test_few_speakers_fill_train_first(n_speakers, expected):
    speaker_of = {f"c{k}": f"s{k}" for k in range(n_speakers)}
    split_of = splits.split_by_speaker(speaker_of, dict.fromkeys(speaker_of, 1.0), (0.8, 0.1, 0.1), seed=0)
    assert set(split_of.values()) == expected


def test_a_share_of_nothing_gets_nobody():
    speaker_of = {f"c{k}": f"s{k}" for k in range(6)}
    split_of = splits.split_by_speaker(speaker_of, dict.fromkeys(speaker_of, 1.0), (0.5, 0.5, 0.0), seed=0)
    assert sorted(split_of.values()) == ["train"] * 3 + ["val"] * 3


def test_every_speaker_is_tested_once():
    speaker_of = {name: name.split("_")[0] for name in NAMES}
    seconds_of = {name: 1.0 + 3 * (name[1] == "4") for name in NAMES}
    folds = [splits.split_into_folds(speaker_of, seconds_of, k, 4, 0.2, seed=2) for k in range(4)]
    tested = [{speaker_of[n] for n, s in fold.items() if s == "test"} for fold in folds]
    assert sum(map(len, tested)) == len(set.union(*tested)) == 10
    for fold in folds:
        by_split = {s: {speaker_of[n] for n in fold if fold[n] == s} for s in ("train", "val", "test")}
        assert all(by_split.values()) and sum(map(len, by_split.values())) == 10, "no speaker is in two splits"
        val, rest = (sum(seconds_of[n] for n in fold if fold[n] in part) for part in (("val",), ("train", "val")))
        assert 0 < val <= 0.2 * rest
    with pytest.raises(StoreError, match="folds <= speakers"):
        splits.split_into_folds(speaker_of, seconds_of, 0, 11, 0.1, seed=2)


def test_split_lists(tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": ["a"], "test": ["b", "gone"]}))
    assert splits.read_split_list(path, ["a", "b", "c"]) == ({"a": "train", "b": "test"}, ["gone"])
    path.write_text(json.dumps(["b"]))
    assert splits.read_split_list(path, ["a", "b", "c"])[0] == {"a": "train", "b": "test", "c": "train"}
    path.write_text(json.dumps({"train": ["a"], "test": ["a"]}))
    with pytest.raises(StoreError, match="one split"):
        splits.read_split_list(path, ["a"])
    path.write_text(json.dumps({"training": ["a"]}))
    with pytest.raises(StoreError, match="needs"):
        splits.read_split_list(path, ["a"])


def test_speaker_rules(tmp_path):
    sources = {"ann_1": "raw/x/ann_1.mp4", "ann_2": "raw/y/ann_2.mp4", "bob_1": "raw/y/bob_1.mp4"}
    assert splits.speakers(sources, "parent") == {"ann_1": "x", "ann_2": "y", "bob_1": "y"}
    assert splits.speakers(sources, "^([a-z]+)_") == {"ann_1": "ann", "ann_2": "ann", "bob_1": "bob"}
    table = tmp_path / "speakers.json"
    table.write_text(json.dumps({"ann_*": "Ann", "ann_2": "Anna", "bob_1": "Bob"}))
    assert splits.speakers(sources, str(table)) == {"ann_1": "Ann", "ann_2": "Anna", "bob_1": "Bob"}
    table.write_text(json.dumps({"ann_*": "Ann"}))
    with pytest.raises(StoreError, match="bob_1"):
        splits.speakers(sources, str(table))
    with pytest.raises(StoreError, match="does not match"):
        splits.speakers(sources, "^(ann)_")
    with pytest.raises(StoreError, match="one group"):
        splits.speakers(sources, "^ann")
