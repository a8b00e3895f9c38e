"""Who speaks in which clip, with what emotion, from where and for which split: from the folders and lists of known corpora.

    python -m data_process.folder_layouts --input /data/clips --layout mead --test_speakers M003 M030 W009 W015 --output lists/mead
    python -m data_process.build_lmdb --clips /data/clips --split lists/mead/split.json --speaker_from lists/mead/speakers.json ...

The input is a folder of raw videos, or what `data_process.clips` made of one: names are then those of the clips, and what is
known of them comes from the paths of their sources. Other layouts: --pattern with a regular expression.
"""

import argparse
import csv
import glob
import json
import re
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

from data_process.clips import find_videos
from data_process.outputs import make_folder, write_aside
from data_process.schema import SPLITS, StoreError
from data_process.splits import split_by_speaker

VIEWS = "front|down|top|left_30|left_60|right_30|right_60"
# Each pattern is searched at the end of a path without suffix, whose folders may be joined by "__" or "#" as well. Its groups
# fill the fields of `Labelled`; other groups belong to the clip's own name.
LAYOUTS = {
    "mead": (
        rf"(?P<speaker>[MW]\d{{3}})/(?:video/)?(?P<view>{VIEWS})/(?P<emotion>[a-z]+)/level_?(?P<level>\d)/(?P<clip>\d+)",
        rf"(?P<speaker>[MW]\d{{3}})_(?P<view>{VIEWS})_(?P<emotion>[a-z]+)_level_?(?P<level>\d)_(?P<clip>\d+)",
        r"(?P<speaker>[MW]\d{3})/(?:(?:ldmk|audio)/)?(?P<emotion>[a-z]+)/level_?(?P<level>\d)/(?P<clip>\d+)",
        r"(?P<speaker>[MW]\d{3})_(?P<emotion>[a-z]+)_level_?(?P<level>\d)_(?P<clip>\d+)",
    ),
    # politicians may come with a number that counts their videos, radio guests with one that tells them apart
    "hdtf": (
        r"(?P<speaker>RD_Radio\d+)_(?P<clip>\d{3}(?:/\d+)?)",
        r"(?P<speaker>W[DR]A_[^_\d/]+)(?P<video>\d*)_(?P<clip>\d{3}(?:/\d+)?)",
    ),
    "voxceleb": (
        r"(?:(?P<split>dev|train|val|test)/)?(?:(?:mp4|video|videos|aac|wav)/)?"
        r"(?P<speaker>id\d{5})/(?P<video>[^/]{11})/(?P<clip>\d+(?:/\d+)?)",
    ),
    "grid": (r"(?P<speaker>s\d+)/(?:video/)?(?:mpg_6000/)?(?P<clip>[blps][bgrw][abiw][a-z][0-9z][anps])",),
    "crema_d": (r"(?P<speaker>\d{4})_(?P<clip>[A-Z]{3})_(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_(?P<level>LO|MD|HI|XX?)",),
}  # fmt: skip
# one name for each emotion and split, whatever the corpus says
SAME = {
    "ANG": "angry", "DIS": "disgusted", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad",
    "dev": "train", "valid": "val", "validation": "val",
}  # fmt: skip
FIELDS = ("speaker", "emotion", "level", "view", "split")
NAME_COLUMNS = ("name", "clip", "path", "file", "filename", "video")


@dataclass(frozen=True)
class Labelled:
    """A clip and what its path and the lists say of it; empty where they say nothing. clip: the rest of its own name."""

    name: str
    path: str
    speaker: str = ""
    emotion: str = ""
    level: str = ""
    view: str = ""
    split: str = ""
    clip: str = ""


def patterns_of(layout=None, pattern=None):
    """Compiled patterns of a named layout, or of one regular expression with named groups."""
    if (layout is None) == (pattern is None):
        raise StoreError("name one layout or give one pattern, not both or neither")
    if layout is not None and layout not in LAYOUTS:
        raise StoreError(f"layout {layout!r} came, known are {', '.join(LAYOUTS)}; or give a pattern")
    try:
        compiled = [re.compile(rf"(?:^|/)(?:{text})$") for text in (LAYOUTS[layout] if layout else (pattern,))]
    except re.error as error:
        raise StoreError(f"pattern {pattern!r}: no regular expression ({error})") from error
    for each in compiled:
        if "speaker" not in each.groupindex:
            raise StoreError(
                f"pattern {pattern!r}: needs a group (?P<speaker>...), and may have {', '.join(FIELDS[1:])}"
            )
    return compiled


def normal(path):
    """A path or flat name without suffix, folders apart by "/": "a__b#1.mp4" -> "a/b/1"."""
    text = str(path).replace("\\", "/")
    suffix = PurePosixPath(text).suffix
    if re.fullmatch(r"\.[A-Za-z]\w{1,4}", suffix):
        text = text.removesuffix(suffix)
    return text.replace("__", "/").replace("#", "/")


def parse_path(path, patterns):
    """{field: value} of the first pattern that fits the end of a path, None where none does."""
    for pattern in patterns:
        match = pattern.search(normal(path))
        if match:
            found = {key: value or "" for key, value in match.groupdict().items()}
            own = "/".join(value for key, value in found.items() if key not in FIELDS and value)
            return {f: SAME.get(found.get(f, ""), found.get(f, "")) for f in FIELDS} | {"clip": own}
    return None


def find_labelled(root, patterns):
    """Videos or finished clips below a folder -> (list of Labelled, names that no pattern fits)."""
    root = Path(root)
    if not root.is_dir():
        raise StoreError(f"{root}: no such folder")
    found, others = [], []
    for name, path in find_videos([root]).items():
        about = path.with_suffix(".json")
        source = json.loads(about.read_text()).get("source", "") if about.is_file() else ""
        labels = parse_path(source or path, patterns) or parse_path(name, patterns)
        if labels is None:
            others.append(name)
        else:
            found.append(Labelled(name, source or str(path), **labels))
    return found, others


# ------------------------------------------------------------------------------------------------ lists


def read_list(path):
    """A list of clips, txt, csv or json -> [{"name": ..., further fields}, ...].

    txt: the first word of each line. csv: a first line with one of the columns name, clip, path, file, filename, video, and any of
    speaker, emotion, level, view, split. json: a list of names or of objects with such fields, {split: [names]} or {name: fields}.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".json":
            rows = _rows_of_json(json.loads(text))
        elif path.suffix == ".csv":
            rows = list(csv.DictReader(text.splitlines()))
        else:
            rows = [{"name": line.split()[0]} for line in text.splitlines() if line.strip()]
        return [_row(row) for row in rows]
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise StoreError(f"{path}: no list of clips as txt, csv or json ({type(error).__name__}: {error})") from error


def _rows_of_json(value):
    if isinstance(value, list):
        return [{"name": item} if isinstance(item, str) else item for item in value]
    if all(isinstance(item, list) for item in value.values()):
        return [{"name": name, "split": split} for split, names in value.items() for name in names]
    return [{"name": name} | (about if isinstance(about, dict) else {"split": about}) for name, about in value.items()]


def _row(row):
    column = next(c for c in NAME_COLUMNS if row.get(c)) if any(row.get(c) for c in NAME_COLUMNS) else None
    if column is None:
        raise KeyError(f"one of the columns {', '.join(NAME_COLUMNS)} is needed, {', '.join(map(str, row))} came")
    fields = {f: str(row[f]) for f in FIELDS if row.get(f) not in (None, "")}
    return {"name": str(row[column])} | {f: SAME.get(v, v) for f, v in fields.items()}


def apply_list(clips, rows, patterns, split=""):
    """Labels of a list laid over those of the paths -> (list of Labelled, names of the list that no clip has).

    A row belongs to the clips whose path ends in its name, or whose path says the same (speaker, emotion, level, view, own name) in
    another spelling; a list of frames or of pieces belongs to the clips that they are of. split: of all rows, where they name none.
    """
    by_end, by_labels = {}, {}
    for place, clip in enumerate(clips):
        parts = normal(clip.path).split("/")
        for text in {normal(clip.name), *("/".join(parts[-k:]) for k in range(1, len(parts) + 1))}:
            by_end.setdefault(text, []).append(place)
        for view in {clip.view, ""}:
            by_labels.setdefault((clip.speaker, clip.emotion, clip.level, view, clip.clip), []).append(place)
    clips, missing = list(clips), []
    for row in rows:
        places = _places(row["name"], by_end, by_labels, patterns)
        if not places:
            missing.append(row["name"])
        fields = {f: v for f, v in row.items() if f != "name"}
        if split:
            fields.setdefault("split", split)
        for place in places:
            clips[place] = replace(clips[place], **fields)
    return clips, missing


def _places(name, by_end, by_labels, patterns):
    text = normal(name)
    for candidate in (text, text.rpartition("/")[0], text.rpartition("/")[0].rpartition("/")[0]):
        if candidate in by_end:
            return by_end[candidate]
        found = parse_path(candidate, patterns) if candidate else None
        if found:
            key = tuple(found[f] for f in ("speaker", "emotion", "level", "view", "clip"))
            if key in by_labels:
                return by_labels[key]
    return []


# ------------------------------------------------------------------------------------------------ splits


def assign(clips, speakers_of_split=None, fractions=None, seed=1):
    """Give every clip that has no split one -> list of Labelled.

    speakers_of_split: {"test": [...], "val": [...]}, all other speakers being for training. Else whole speakers by `fractions` of
    (train, val, test), counted in clips. Else clips without a split stay without one and are left out.
    """
    if speakers_of_split:
        known = {clip.speaker for clip in clips}
        unknown = sorted({s for names in speakers_of_split.values() for s in names} - known)
        if unknown:
            raise StoreError(
                f"speaker {unknown[0]} is asked for and not among {len(known)}: {', '.join(sorted(known)[:20])}"
            )
        split_of = {speaker: split for split, names in speakers_of_split.items() for speaker in names}
        return [replace(clip, split=split_of.get(clip.speaker, "train")) for clip in clips]
    if fractions and not any(clip.split for clip in clips):
        chosen = split_by_speaker(
            {c.name: c.speaker for c in clips}, dict.fromkeys((c.name for c in clips), 1.0), fractions, seed
        )
        return [replace(clip, split=chosen[clip.name]) for clip in clips]
    return clips


def check_splits(clips, shared_speakers=False):
    """Refuse names of splits that are none, and a speaker of the training clips in another split."""
    wrong = sorted({clip.split for clip in clips if clip.split} - set(SPLITS))
    if wrong:
        raise StoreError(f"split {wrong[0]!r} came, the splits are {', '.join(SPLITS)}")
    train, others = ({c.speaker for c in clips if (c.split == "train") == own and c.split} for own in (True, False))
    if train & others and not shared_speakers:
        raise StoreError(
            f"{len(train & others)} speakers are in train and in another split, the first {min(train & others)}: results would "
            "measure memory; choose other lists, or allow it with --shared_speakers"
        )


def write_lists(clips, output):
    """speakers.json and split.json for `build_lmdb`, labels.json with all that is known, into a folder."""
    output = make_folder(output)
    speakers = {}
    for clip in clips:
        # `clips` numbers the stretches of a video that it cuts into several
        speakers |= {clip.name: clip.speaker, glob.escape(clip.name) + "_[0-9][0-9]": clip.speaker}
    split = {name: sorted(c.name for c in clips if c.split == name) for name in SPLITS}
    labels = {c.name: {k: v for k, v in asdict(c).items() if k not in ("name", "clip") and v} for c in clips}
    for name, value in (("speakers", speakers), ("split", split), ("labels", labels)):
        write_aside(output / f"{name}.json", json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def parse(argv):
    """Command line -> argparse namespace."""
    parser = argparse.ArgumentParser(
        prog="python -m data_process.folder_layouts",
        description="Speakers, emotions and splits of a corpus from its folders and lists.",
    )
    parser.add_argument("--input", required=True, help="folder of raw videos, or of data_process.clips")
    parser.add_argument("--layout", choices=tuple(LAYOUTS), help="corpus whose folders or names these are")
    parser.add_argument("--pattern", help="or a regular expression on the end of the path, with (?P<speaker>...) and, as far as "
                        "known, emotion, level, view, split")  # fmt: skip
    parser.add_argument(
        "--lists", nargs="*", default=[], metavar="[SPLIT=]FILE", help="txt, csv or json lists of clips"
    )
    parser.add_argument("--test_speakers", nargs="*", default=[], help="all their clips are for test")
    parser.add_argument("--val_speakers", nargs="*", default=[], help="all their clips are for validation")
    parser.add_argument("--fractions", nargs=3, type=float, metavar=("TRAIN", "VAL", "TEST"),
                        help="shares of the clips, whole speakers, where neither lists nor folders name splits")  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, help="order of the speakers for --fractions (default 1)")
    parser.add_argument("--shared_speakers", action="store_true", help="allow speakers of train in other splits")
    parser.add_argument("--output", required=True, help="folder for speakers.json, split.json and labels.json")
    return parser.parse_args(argv)


def main(argv=None):
    """Exit status: 0 written, 1 nothing fits or the lists contradict each other."""
    args = parse(argv)
    try:
        patterns = patterns_of(args.layout, args.pattern)
        clips, others = find_labelled(args.input, patterns)
        if not clips:
            raise StoreError(
                f"{args.input}: none of {len(others)} videos fits the layout, the first is {(others or ['none'])[0]}"
            )
        for given in args.lists:
            split, _, path = given.rpartition("=")
            clips, missing = apply_list(clips, read_list(path), patterns, SAME.get(split, split))
            if missing:
                print(f"note: {len(missing)} entries of {path} have no clip, the first {missing[0]}", file=sys.stderr)
        asked = {"test": args.test_speakers, "val": args.val_speakers}
        clips = assign(clips, asked if any(asked.values()) else None, args.fractions, args.seed)
        check_splits(clips, args.shared_speakers)
        write_lists(clips, args.output)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if others:
        print(
            f"note: {len(others)} videos do not fit the layout and are left out, the first {others[0]}", file=sys.stderr
        )
    print(summary(clips), end="")
    return 0


def summary(clips):
    """Counts by split, speaker and emotion, for people."""
    lines = [f"{len(clips)} clips of {len({c.speaker for c in clips})} speakers"]
    for split in (*SPLITS, ""):
        own = [c for c in clips if c.split == split]
        if own:
            lines.append(f"{split or 'no split'}: {len(own)} clips, {len({c.speaker for c in own})} speakers")
    emotions = sorted({c.emotion for c in clips if c.emotion})
    if emotions:
        lines.append("emotions: " + ", ".join(f"{e} {sum(c.emotion == e for c in clips)}" for e in emotions))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
