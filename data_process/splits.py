"""Who speaks in a clip, and which clips are for training, validation and test.

    python -m data_process.splits --clips /data/clips/grid_s1 --val 15 --test 15 --seed 1 --output
    data/splits/grid_s1.json

writes a fixed list by clip (one speaker, different sentences). The rule: names in the order of sha256("<seed>:<name>");
the first `--test` of them are test, the next `--val` val, the rest train. It needs no random generator and is the same
everywhere.
"""

import argparse
import fnmatch
import hashlib
import json
import re
import sys
from pathlib import Path

from data_process.outputs import writable_file, write_aside
from data_process.schema import SPLITS, StoreError
from data_process.video import VIDEO_SUFFIXES


def shuffled(names, seed):
    """Names in an order that depends on seed and names alone: rising sha256 of "<seed>:<name>"."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).hexdigest())


def split_by_count(names, n_val, n_test, seed):
    """{split: sorted names} with exactly n_test test and n_val val names."""
    if n_val + n_test >= len(names):
        raise StoreError(f"{n_val} val and {n_test} test clips asked of {len(names)}: none would be left to train on")
    order = shuffled(names, seed)
    return {
        "train": sorted(order[n_test + n_val :]),
        "val": sorted(order[n_test : n_test + n_val]),
        "test": sorted(order[:n_test]),
    }


def split_by_speaker(speaker_of, seconds_of, fractions, seed):
    """Whole speakers to splits so that each split comes near its share of the seconds.

    speaker_of: {clip: speaker}. seconds_of: {clip: seconds}. fractions: (train, val, test), adding up to 1.
    Speakers come in seeded order. The first is for training, the next for test and val if those are wanted at all, so
    that three speakers suffice for three splits; each further one goes to the split that lacks most of its share. ->
    {clip: split}
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise StoreError(
            f"fractions {tuple(fractions)} came, three numbers for train, val, test that add up to 1 are needed"
        )
    wanted = {split: fraction for split, fraction in zip(SPLITS, fractions, strict=True) if fraction > 0}
    first = [split for split in ("train", "test", "val") if split in wanted]
    total = sum(seconds_of.values()) or 1.0
    share = dict.fromkeys(wanted, 0.0)
    split_of = {}
    for i, speaker in enumerate(shuffled(set(speaker_of.values()), seed)):
        split_of[speaker] = first[i] if i < len(first) else max(wanted, key=lambda split: wanted[split] - share[split])
        share[split_of[speaker]] += sum(seconds_of[clip] for clip, s in speaker_of.items() if s == speaker) / total
    return {clip: split_of[speaker] for clip, speaker in speaker_of.items()}


def split_into_folds(speaker_of, seconds_of, fold, n_folds, val_fraction, seed):
    """One of n_folds splits in which every speaker is tested once -> {clip: split}.

    speaker_of: {clip: speaker}. seconds_of: {clip: seconds}. Speakers, longest first, go to the fold with the fewest seconds;
    fold number `fold` is test. Of the others those are val that, in seeded order, still fit into val_fraction of their seconds.
    """
    n_speakers = len(set(speaker_of.values()))
    if not 0 <= fold < n_folds <= n_speakers:
        raise StoreError(
            f"fold {fold} of {n_folds} came for {n_speakers} speakers: 0 <= fold < folds <= speakers is needed"
        )
    seconds = dict.fromkeys(shuffled(set(speaker_of.values()), seed), 0.0)
    for clip, speaker in speaker_of.items():
        seconds[speaker] += seconds_of[clip]
    filled, fold_of = [0.0] * n_folds, {}
    for speaker in sorted(seconds, key=lambda s: -seconds[s]):
        fold_of[speaker] = filled.index(min(filled))
        filled[fold_of[speaker]] += seconds[speaker]
    room = val_fraction * (sum(filled) - filled[fold])
    split_of_speaker = {}
    for speaker in seconds:
        is_val = fold_of[speaker] != fold and seconds[speaker] <= room
        room -= seconds[speaker] if is_val else 0
        split_of_speaker[speaker] = "test" if fold_of[speaker] == fold else "val" if is_val else "train"
    return {clip: split_of_speaker[speaker] for clip, speaker in speaker_of.items()}


def read_split_list(path, names):
    """A split file -> ({clip: split}, names in the file that are not among `names`).

    The file is JSON: {"train": [...], "val": [...], "test": [...]}, or one list of test names, the rest being train.
    Clips that a dict does not name belong to no split.
    """
    value = _read_json(path)
    if isinstance(value, list):
        value = {"test": value, "train": sorted(set(names) - set(value))}
    if (
        not isinstance(value, dict)
        or not set(value) <= set(SPLITS)
        or not all(isinstance(v, list) for v in value.values())
    ):
        raise StoreError(f"{path}: needs {{train: [...], val: [...], test: [...]}} or a list of test names")
    split_of = {}
    for split, clips in value.items():
        for clip in clips:
            if split_of.setdefault(clip, split) != split:
                raise StoreError(f"{path}: {clip} is in {split_of[clip]} and in {split}: a clip belongs to one split")
    known = set(names)
    return {c: s for c, s in split_of.items() if c in known}, sorted(set(split_of) - known)


def speakers(sources, rule):
    """{clip: speaker}. sources: {clip: path of its source video}.

    rule: "parent" (folder of the source), "one" (everybody is the same), a JSON file {name or pattern with *: speaker},
    or a regular expression whose first group, searched in the clip's name, is the speaker.
    """
    if rule == "parent":
        return {clip: Path(source).parent.name or "unknown" for clip, source in sources.items()}
    if rule == "one":
        return dict.fromkeys(sources, "speaker")
    if rule.endswith(".json"):
        return _speakers_from_table(sources, rule)
    return _speakers_from_pattern(sources, rule)


def _speakers_from_table(sources, path):
    table = _read_json(path)
    out, missing = {}, []
    for clip in sources:
        hits = [speaker for pattern, speaker in table.items() if fnmatch.fnmatchcase(clip, pattern)]
        out[clip] = str(table.get(clip, hits[0] if hits else ""))
        if clip not in table and not hits:
            missing.append(clip)
    if missing:
        raise StoreError(
            f"{path}: names no speaker for {len(missing)} clips, the first {missing[0]}: add them, or a pattern with *"
        )
    return out


def _speakers_from_pattern(sources, rule):
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise StoreError(
            f"speaker rule {rule!r}: not a regular expression ({error}), nor parent, one or a .json file"
        ) from error
    if pattern.groups < 1:
        raise StoreError(f"speaker rule {rule!r}: needs one group in brackets that is the speaker, such as ^([^_]+)_")
    found = {clip: pattern.search(clip) for clip in sources}
    missing = sorted(clip for clip, match in found.items() if match is None)
    if missing:
        raise StoreError(f"speaker rule {rule!r}: does not match {len(missing)} clips, the first {missing[0]}")
    return {clip: match.group(1) for clip, match in found.items()}


def _read_json(path):
    try:
        return json.loads(Path(path).read_text())
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}: give a JSON file") from error
    except ValueError as error:
        raise StoreError(f"{path}: cannot be read as JSON ({error})") from error


def video_names(folder):
    """Stems of the videos in a folder, in order."""
    if not Path(folder).is_dir():
        raise StoreError(f"{folder}: no such folder: give one of data_process.clips or of videos")
    return sorted({p.stem for p in Path(folder).iterdir() if p.suffix.lower() in VIDEO_SUFFIXES})


def main(argv=None):
    """Write a split list by clip. Exit status: 0 written, 1 not."""
    parser = argparse.ArgumentParser(
        prog="python -m data_process.splits",
        description="Write a fixed list of train, val and test clips of one speaker.",
    )
    parser.add_argument(
        "--clips", required=True, help="folder of data_process.clips (or of any videos: the stems are the names)"
    )
    parser.add_argument("--val", type=int, default=15, help="clips in val (default 15)")
    parser.add_argument("--test", type=int, default=15, help="clips in test (default 15)")
    parser.add_argument("--seed", type=int, default=1, help="order of the names (default 1)")
    parser.add_argument("--output", required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    try:
        split = split_by_count(video_names(args.clips), args.val, args.test, args.seed)
        write_aside(writable_file(args.output), json.dumps(split, indent=1) + "\n")
    except (StoreError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{args.output}: " + ", ".join(f"{split_name} {len(clips)}" for split_name, clips in split.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
