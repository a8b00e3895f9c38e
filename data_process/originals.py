"""Stores of published systems -> clips, for `build_lmdb` or, to be judged and cropped anew, for `clips`.

    python -m data_process.originals --ted_hd /data/ted_hd.lmdb --output /data/ted_clips
    python -m data_process.build_lmdb --clips /data/ted_clips --split /data/ted_clips/split.json \\
        --speaker_from /data/ted_clips/speakers.json --output data/ted.lmdb

    python -m data_process.originals --pirender /data/mead.lmdb --audio /data/mead_wav --lists train=train.json test=test.json \\
        --output /data/mead_clips

A clip becomes <name>.mp4 (25 fps), <name>.wav (16 kHz mono, 640 samples a frame), <name>.coeff.npz (its stored coefficients and
landmarks as a FaceTrack of the Basel model, where the store has them) and <name>.json, which is written last: where it is, the clip
is whole, and the same command goes on after it. Landmarks of our own are found by what takes the clips next.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_process import schema
from data_process.clip_files import PART_PREFIX, owner_of, place_clip
from data_process.coeff_track import CoeffFileError
from data_process.folder_layouts import LAYOUTS, normal, parse_path, patterns_of, read_list
from data_process.original_stores import FPS, PirenderStore, TedHdStore
from data_process.outputs import make_folder, write_aside
from data_process.schema import StoreError
from data_process.splits import shuffled
from data_process.video import VideoError, VideoWriter, probe, write_wav
from deep_3drecon.safe_pickle import UnsafePickleError
from deepspeech import SAMPLE_RATE, AudioError, load_audio
from deepspeech.timing import SAMPLES_PER_FRAME

__all__ = ["PirenderStore", "TedHdStore", "import_store"]

CRF = 12  # frames were compressed as JPEG before: finer than usual, so that the second time adds little
SOUND_SUFFIXES = (".wav", ".m4a", ".mp3", ".flac", ".aac", ".ogg", ".mp4")


def import_store(store, output, sounds=None, allow_silent=False, progress=True):
    """Write the clips of a TedHdStore or PirenderStore -> ({name: split}, {name: speaker}, {name: reason it was left out}).

    sounds: {normal name: path} of sound files for a store that has none. allow_silent: clips without sound get zeros.
    """
    output = make_folder(output)
    todo = [(split, index, clip) for split in store.splits for index, clip in enumerate(store.clips(split))]
    split_of, speaker_of, left_out = {}, {}, {}
    for split, index, clip in tqdm(todo, unit="clip", disable=not progress):
        name = file_name(clip["name"])
        about = {"name": name, "source": f"{store.path}#{split}/{clip['name']}", "fps": FPS, "speaker": clip["speaker"]}
        if not _is_done(output, name, about["source"]):
            try:
                with tempfile.TemporaryDirectory(prefix=PART_PREFIX, dir=output) as folder:
                    _write_clip(store, split, index, Path(folder), about, sounds or {}, allow_silent)
                    place_clip(folder, output, name)
            except (AudioError, CoeffFileError, StoreError, UnsafePickleError, VideoError) as error:
                left_out[name] = str(error)
                continue
        split_of[name], speaker_of[name] = split, clip["speaker"]
    return split_of, speaker_of, left_out


def file_name(clip):
    """Name of a clip's files: folders in it joined by "__"."""
    return clip.strip("/").replace("/", "__")


def _is_done(output, name, source):
    before = owner_of(output, name)
    if before not in ("", source):
        raise StoreError(
            f"{output / name}.json: is of {before or 'something else'} and not of {source}: give another output folder"
        )
    return (output / f"{name}.json").is_file()


def _write_clip(store, split, index, folder, about, sounds, allow_silent):
    part, notes = folder / about["name"], []
    if isinstance(store, TedHdStore):
        part.with_name("video.mp4").write_bytes(store.bytes(split, "video", index))
        info = probe(folder / "video.mp4")
        if abs(info.fps - FPS) > 0.01:
            raise VideoError(f"{about['source']}: its video is at {info.fps:.4g} fps, {FPS} are needed")
        os.replace(folder / "video.mp4", f"{part}.mp4")
        n_frames, has_coefficients = info.n_frames, (split, "coeff") in store.databases
        if (split, "audio") in store.databases:
            (folder / "stored.wav").write_bytes(store.bytes(split, "audio", index))
    else:
        n_frames, has_coefficients = store.clips(split)[index]["n_frames"], True
        with VideoWriter(f"{part}.mp4", fps=FPS, crf=CRF, threads=1) as video:
            for t in range(n_frames):
                video.write(store.frame(split, index, t))
    sound = folder / "stored.wav"
    sound = sound if sound.is_file() else sound_file(sounds, store.clips(split)[index]["name"])
    write_wav(f"{part}.wav", _sound(sound, n_frames, allow_silent, notes, about), SAMPLE_RATE)
    if has_coefficients:
        try:
            track = store.coefficients(split, index)
        except StoreError as error:  # a clip without them is still a clip
            notes.append(f"no coefficients: {error}")
        else:
            if len(track) != n_frames:
                notes.append(f"{len(track)} rows of coefficients for {n_frames} frames")
            track.face_track().save(f"{part}.coeff.npz")
    about |= {"n_frames": n_frames, "split": split, "notes": notes}
    Path(f"{part}.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n")


def _sound(path, n_frames, allow_silent, notes, about):
    """Exactly 640 samples a frame from the first frame on."""
    wav = np.zeros(n_frames * SAMPLES_PER_FRAME, np.float32)
    if path is None:
        if not allow_silent:
            raise AudioError(f"{about['source']}: no sound: give --audio with a file of this name, or --allow_silent")
        notes.append("silent")
        return wav
    sound = load_audio(path, partial=True)
    gap = len(sound) / SAMPLE_RATE - n_frames / FPS
    if abs(gap) > 0.1:
        notes.append(
            f"sound {abs(gap):.2f} s {'longer' if gap > 0 else 'shorter'} than the picture: cut or filled at its end"
        )
    sound = sound[: len(wav)]
    wav[: len(sound)] = sound
    return wav


def find_sounds(folder):
    """{key: path} of the sound files below a folder: their paths below it, their own names, and what `labels` reads off them."""
    folder = Path(folder)
    if not folder.is_dir():
        raise StoreError(f"{folder}: no such folder")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SOUND_SUFFIXES)
    by_label = {key: p for p in paths if (key := labels(p.relative_to(folder))) is not None}
    return by_label | {normal(p.name): p for p in paths} | {normal(p.relative_to(folder)): p for p in paths}


def sound_file(sounds, clip):
    """Sound of a clip among those of `find_sounds`, None if there is none: of its name, or of its labels in another layout."""
    return sounds.get(normal(clip)) or sounds.get(labels(clip))


def labels(path):
    """(speaker, emotion, level, own name) of a path or name of a known corpus, None for any other."""
    for layout in LAYOUTS:
        found = parse_path(path, patterns_of(layout))
        if found:
            return tuple(found[field] for field in ("speaker", "emotion", "level", "clip"))
    return None


def read_splits(lists, names):
    """["split=list file", ...] and the names of a store's clips -> {clip name: split}; and names that are no clip."""
    by_name, split_of, missing = {normal(name): name for name in names}, {}, []
    for given in lists:
        split, _, path = given.rpartition("=")
        for row in read_list(path):
            own, name = row.get("split", split), by_name.get(normal(row["name"]))
            if own not in schema.SPLITS:
                raise StoreError(
                    f"{given}: split {own!r} came, {', '.join(schema.SPLITS)} are the splits: give SPLIT=FILE"
                )
            if name is None:
                missing.append(row["name"])
            elif split_of.setdefault(name, own) != own:
                raise StoreError(f"{path}: {name} is in {split_of[name]} and in {own}: a clip belongs to one split")
    return split_of, missing


def take_val(split_of, speakers_in_order, speaker_of, share):
    """Move whole speakers from train to val, in the order given, until val has `share` of the clips of train -> {name: split}.

    Nothing is moved where the store has a val of its own, no train, or one speaker only in it.
    """
    train = [name for name, split in split_of.items() if split == "train"]
    known = {speaker_of[name] for name in train}
    if share <= 0 or "val" in split_of.values() or len(known) < 2:
        return split_of
    out, n_moved = dict(split_of), 0
    for speaker in [s for s in speakers_in_order if s in known][: len(known) - 1]:
        if n_moved >= max(1, round(share * len(train))):
            break
        own = [name for name in train if speaker_of[name] == speaker]
        out |= dict.fromkeys(own, "val")
        n_moved += len(own)
    return out


def parse(argv):
    """Command line -> argparse namespace."""
    parser = argparse.ArgumentParser(
        prog="python -m data_process.originals",
        description="Turn the stores of style_avatar, PIRenderer and Style2Talker into clips.",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--ted_hd", help="LMDB of style_avatar (TED-HD): folder or single file")
    which.add_argument("--pirender", help="LMDB with JPEGs under <clip>-%%07d")
    parser.add_argument("--audio", help="folder with the sound of a --pirender store, files named as its clips")
    parser.add_argument(
        "--lists", nargs="*", default=[], metavar="SPLIT=FILE", help="lists of a --pirender store's clips"
    )
    parser.add_argument("--allow_silent", action="store_true", help="keep clips without sound; their wav is zeros")
    parser.add_argument(
        "--val", type=float, default=0.05, metavar="SHARE",
        help="of the training clips, to choose the best model by, where the store or its lists have none (default %(default)s)",
    )  # fmt: skip
    parser.add_argument("--output", required=True, help="folder for the clips, split.json and speakers.json")
    return parser.parse_args(argv)


def main(argv=None):
    """Exit status: 0 some clips are there, 1 none or the store cannot be read, 130 after Ctrl-C."""
    args = parse(argv)
    try:
        sounds = find_sounds(args.audio) if args.audio else None
        store = TedHdStore(args.ted_hd) if args.ted_hd else PirenderStore(args.pirender)
        if args.lists:
            if args.ted_hd:
                raise StoreError("--lists: a store of style_avatar has its own splits")
            store.split_of, missing = read_splits(args.lists, store.lengths)
            if missing:
                print(
                    f"note: {len(missing)} names of the lists are no clip of the store, the first {missing[0]}",
                    file=sys.stderr,
                )
        split_of, speaker_of, left_out = import_store(store, args.output, sounds, args.allow_silent)
        own_val = "val" in split_of.values()
        split_of = take_val(split_of, _order_of_val(store, speaker_of), speaker_of, args.val)
        write_tables(args.output, split_of, speaker_of, left_out)
    except KeyboardInterrupt:
        print(f"\nstopped; the clips in {args.output} are whole: run the same command to go on", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{args.output}: {len(split_of)} clips of {len(set(speaker_of.values()))} speakers, {len(left_out)} left out")
    if "val" in split_of.values() and not own_val:
        print(f"{sum(split == 'val' for split in split_of.values())} clips of train are for validation (--val)")
    for name, reason in list(left_out.items())[:20]:
        print(f"  {name}: {reason}")
    return 0 if split_of else 1


def _order_of_val(store, speaker_of):
    """Speakers in the order in which they leave train: shuffled, but backwards where neighbouring clips may be of one talk."""
    names = list(dict.fromkeys(speaker_of.values()))
    return names[::-1] if isinstance(store, TedHdStore) else shuffled(names, 1)


def write_tables(output, split_of, speaker_of, left_out):
    """split.json (where the store has splits), speakers.json and left_out.json beside the clips."""
    tables = {"speakers": speaker_of, "left_out": left_out}
    splits = {split: sorted(n for n, own in split_of.items() if own == split) for split in schema.SPLITS}
    if any(splits.values()):
        tables["split"] = splits
    for name, value in tables.items():
        write_aside(Path(output, f"{name}.json"), json.dumps(value, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
