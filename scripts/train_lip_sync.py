"""Train the audio-visual sync probe `deepspeech.lip_sync`, or measure how good it is.

    python -m scripts.train_lip_sync train --lmdb data/lmdb/grid_s1=0.4 data/lmdb/synthetic=0.6 --output data/runs/lip_sync
    python -m scripts.train_lip_sync evaluate --lmdb data/lmdb/unheard --split all --shift
    python -m scripts.train_lip_sync evaluate --videos FOLDER --expected offsets.csv

`train` learns from the train splits, about 5 minutes for 2000 steps on one core, and takes the threshold of confidence
from the val splits. `evaluate` prints Markdown tables: offsets of stores whose sound is in step; the same with the sound
moved by -10 to 10 frames (--shift); the offset of every video in a folder. Each also for sound of other clips.
"""

import argparse
import csv
import io
import sys
import time
from pathlib import Path

import numpy as np
import soundfile
import torch

from data_process import schema
from data_process.landmarks import FaceLandmarker, NoFaceError
from data_process.schema import StoreError
from data_process.store import Store
from data_process.video import VIDEO_SUFFIXES, VideoError, read_frames
from deep_3drecon.landmarks import points68
from deepspeech import AudioError, features, load_audio
from deepspeech.lip_sync import MAX_LAG, LipSync, LipSyncError, lip_shape
from deepspeech.lip_sync_network import LipSyncNetwork
from deepspeech.lip_sync_windows import draw_window
from deepspeech.timing import MOTION_FPS, ROWS_PER_FRAME, SAMPLES_PER_FRAME

WINDOWS = (40, 60, 75, 110, 160)  # frames; one batch has windows of one length
WINDOW_SHARES = (0.15, 0.2, 0.3, 0.2, 0.15)
PEAK_ROWS = 1.0  # standard deviation of the wanted distribution over lags, half a frame
MOST_SHIFT = 10  # frames by which --shift moves the sound
SHORTEST_SHIFTED = 3 * MOTION_FPS
FEWEST_STRANGERS = 5  # videos; fewer may all show the same speech
FALSE_ALARMS = 0.05  # share of nonsense whose confidence lies above the threshold


def read_clips(path, splits, with_sound=False):
    """Clips of a store -> [{"name", "lips" (T, 2), "valid" (T,), "phonemes", "mel", "energy", maybe "wav"}, ...]."""
    store, clips = Store(path), []
    for split in splits:
        for k, about in enumerate(store.clips(split)):
            clip = {name: store.array(split, name, k) for name in schema.FEATURES}
            clip |= {"name": about["name"], "lips": lip_shape(store.array(split, "lm68", k))}
            clip["valid"] = schema.unpack_valid(store.bytes(split, "track", k))
            if with_sound:
                clip["wav"] = soundfile.read(io.BytesIO(store.bytes(split, "audio", k)), dtype="float32")[0]
            clips.append(clip)
    store.close()
    return clips


def read_videos(folder, as_stored):
    """Videos of a folder -> the same dicts. A wav of the same name replaces the sound of the video."""
    landmarker, clips = FaceLandmarker(), []
    for path in sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in VIDEO_SUFFIXES):
        sound = path.with_suffix(".wav")
        try:
            track = landmarker.track(read_frames(path, fps=None if as_stored else MOTION_FPS))
            wav = load_audio(sound if sound.exists() else path)
        except (VideoError, AudioError, NoFaceError) as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        lips = lip_shape(points68(track.points[..., :2]))
        clips.append({"name": path.stem, "lips": lips, "valid": track.valid, "wav": wav, **features(wav)})
    return clips


# Training


def draw_batch(stores, shares, size, rng):
    """Windows of clips of [[clip, ...], ...] -> dict of tensors (size, ...)."""
    n_frames = int(rng.choice(WINDOWS, p=WINDOW_SHARES))
    windows = []
    for number in rng.choice(len(stores), size, p=shares):
        clips = stores[number]
        lengths = np.array([len(clip["lips"]) for clip in clips], float).clip(max=8 * MOTION_FPS)
        windows.append(draw_window(clips[rng.choice(len(clips), p=lengths / lengths.sum())], n_frames, rng))
    return {key: torch.from_numpy(np.stack([window[key] for window in windows])) for key in windows[0]}


def loss(network, batch, nonsense):
    """Cross entropy of the lag; in the last `nonsense` rows, made of sound and lips of different windows, of "none"."""
    lips, used = (torch.cat([batch[key], batch[key][:nonsense].roll(1, 0)]) for key in ("lips", "used"))
    sound = torch.cat([batch["sound"], batch["sound"][:nonsense]])
    log_share = torch.log_softmax(network.log_odds(*network(sound, lips, used, MAX_LAG)), 1)
    lags = torch.arange(-ROWS_PER_FRAME * MAX_LAG, ROWS_PER_FRAME * MAX_LAG + 1)
    wanted = torch.softmax(-(((lags - batch["lag_rows"][:, None]) / PEAK_ROWS) ** 2) / 2, 1)
    matched = -(wanted * log_share[: len(wanted), :-1]).sum()
    return (matched - log_share[len(wanted) :, -1].sum()) / len(log_share)


def train(args):
    """Train on the train splits, set the threshold on the val splits, write the weights."""
    names, shares = zip(*(store.rsplit("=", 1) if "=" in store else (store, "1") for store in args.lmdb), strict=True)
    shares = np.array([float(share) for share in shares])
    stores = [read_clips(name, ["train"]) for name in names]
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    network = LipSyncNetwork(args.width, args.lip_width, args.size)
    optimizer = torch.optim.AdamW(network.parameters(), args.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, args.steps)
    began, recent = time.perf_counter(), []
    for step in range(1, args.steps + 1):
        value = loss(network, draw_batch(stores, shares / shares.sum(), args.batch, rng), args.batch // 4)
        if not torch.isfinite(value):
            raise LipSyncError(f"step {step}: the loss is {value.item()}; use a smaller --lr")
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        recent = [*recent[-99:], value.item()]
        if step % args.print_every == 0 or step == args.steps:
            print(f"step {step}: loss {np.mean(recent):.3f}, {time.perf_counter() - began:.0f} s", flush=True)
    probe = LipSync(network, {"trained_on": {Path(n).name: float(s) for n, s in zip(names, shares, strict=True)}})
    probe.facts |= {"seed": args.seed, "steps": args.steps, "batch": args.batch, "lr": args.lr}
    probe.facts["confident_from"] = round(find_threshold(probe, [read_clips(name, ["val"]) for name in names]), 3)
    probe.save(args.output)
    print(f"{args.output}: confident from {probe.confident_from}")


def find_threshold(probe, stores):
    """Confidence that FALSE_ALARMS of nonsense exceed: lips of one store with sound of another, where there are two.

    Within a corpus of one sentence pattern, such as GRID, the sound of another clip nearly fits.
    """
    nonsense = []
    for number, clips in enumerate(stores):
        sounds = [clip for other in stores[:number] + stores[number + 1 :] for clip in other]
        nonsense.append(nonsense_confidence(probe, clips, sounds))
    nonsense = np.concatenate(nonsense)
    return float(np.quantile(nonsense, 1 - FALSE_ALARMS)) if len(nonsense) else 0.5


# Measuring


def nonsense_confidence(probe, clips, sounds=None, others=10):
    """Confidence of the lips of each clip with the sound of `others` other clips, or of some of `sounds`, (n,)."""
    found = []
    for k, clip in enumerate(clips):
        pool = sounds or clips[:k] + clips[k + 1 :]
        if not pool:
            continue
        for number in np.linspace(k, k + len(pool), others, endpoint=False).astype(int) % len(pool):
            found.append(probe.measure(pool[number], clip["lips"], clip["valid"]).confidence)
    return np.array(found)


def measure_all(probe, clips):
    """(offsets, confidences), (n,) each."""
    found = [probe.measure(clip, clip["lips"], clip["valid"]) for clip in clips]
    return np.array([f.offset_frames for f in found]), np.array([f.confidence for f in found])


def ranks_above(high, low):
    """Share of pairs in which a value of `high` lies above one of `low`: the area under the ROC curve."""
    return float((high[:, None] > low).mean() + 0.5 * (high[:, None] == low).mean())


def moved(wav, n_frames):
    """Sound n_frames later, of the same length; silence where it has none."""
    n = abs(n_frames) * SAMPLES_PER_FRAME
    silence = np.zeros(n, np.float32)
    return np.concatenate([silence, wav[: len(wav) - n]]) if n_frames >= 0 else np.concatenate([wav[n:], silence])


def summary_row(name, errors, confidence, nonsense, threshold):
    """One line of the table over clips: errors in frames."""
    cells = [name, len(errors), f"{np.median(errors):+.2f}"]
    cells += [f"{(np.abs(errors) <= limit).mean():.3f}" for limit in (0.5, 1, 2)]
    cells += [f"{(confidence > threshold).mean():.3f}"]
    cells += (
        [f"{(nonsense > threshold).mean():.3f}", f"{ranks_above(confidence, nonsense):.3f}"]
        if len(nonsense)
        else ["", ""]
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def print_stores(probe, args):
    """Tables of clips that are in step, and of the same clips with the sound moved."""
    threshold, rng = probe.confident_from, np.random.default_rng(args.seed)
    print(f"confident: above {threshold:.2f}. nonsense: sound of other clips of the store\n")
    print(
        "| clips | n | median error, frames | within 0.5 | within 1 | within 2 | confident | nonsense confident | ROC area |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for path in args.lmdb:
        splits = schema.SPLITS if args.split == "all" else [args.split]
        clips = read_clips(path, splits, with_sound=args.shift)
        offsets, confidence = measure_all(probe, clips)
        print(summary_row(f"{Path(path).name}", offsets, confidence, nonsense_confidence(probe, clips), threshold))
        long_enough = [k for k, clip in enumerate(clips) if len(clip["lips"]) >= SHORTEST_SHIFTED]
        if args.shift and long_enough:
            shifts = rng.integers(-MOST_SHIFT, MOST_SHIFT + 1, len(long_enough))
            changed = [
                {**clips[k], **features(moved(clips[k]["wav"], int(n)))}
                for k, n in zip(long_enough, shifts, strict=True)
            ]
            found, confidence = measure_all(probe, changed)
            print(summary_row(f"{Path(path).name}, sound moved", found - shifts, confidence, np.zeros(0), threshold))
            differ = np.abs(found - shifts - offsets[long_enough])
            print(
                f"\nmoved against unmoved, less the shift: median {np.median(differ):.3f}, 95 % {np.quantile(differ, 0.95):.3f}"
            )


def print_videos(probe, args):
    """Table of the videos of a folder, and how they compare with expected offsets."""
    expected = {}
    if args.expected:
        with open(args.expected, newline="", encoding="utf-8") as file:
            expected = {row["name"]: float(row["frames"]) for row in csv.DictReader(file)}
    clips = read_videos(args.videos, args.as_stored)
    if not clips:
        raise LipSyncError(f"{args.videos}: no video with a face and sound in it")
    print("| clip | frames | offset | confidence | score | expected |\n|---|---|---|---|---|---|")
    offsets, confidence = measure_all(probe, clips)
    for clip, offset, sure in zip(clips, offsets, confidence, strict=True):
        score = probe.measure(clip, clip["lips"], clip["valid"]).score
        mark = "" if sure > probe.confident_from else " (not confident)"
        known = f"{expected[clip['name']]:+.0f}" if clip["name"] in expected else ""
        print(f"| {clip['name']} | {len(clip['lips'])} | {offset:+.2f}{mark} | {sure:.2f} | {score:.3f} | {known} |")
    nonsense = nonsense_confidence(probe, clips)
    if len(clips) >= FEWEST_STRANGERS:
        print(
            f"\nsound of other clips: {(nonsense > probe.confident_from).mean():.3f} of {len(nonsense)} above ", end=""
        )
        print(f"{probe.confident_from:.2f}, ROC area {ranks_above(confidence, nonsense):.3f}")
    differ = np.array([o - expected[c["name"]] for o, c in zip(offsets, clips, strict=True) if c["name"] in expected])
    if len(differ):
        middle = np.median(differ)
        print(
            f"against expected, {len(differ)} clips: median {middle:+.2f}; within 1 / 2 frames {(abs(differ) <= 1).sum()}",
            end="",
        )
        print(f" / {(abs(differ) <= 2).sum()}; less the median {(abs(differ - middle) <= 1).sum()}", end="")
        print(f" / {(abs(differ - middle) <= 2).sum()}")


def main(argv=None):
    """Exit status: 0, or 1 after an error."""
    parser = argparse.ArgumentParser(prog="python -m scripts.train_lip_sync", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="make weights")
    training.add_argument(
        "--lmdb", nargs="+", required=True, help="stores with train and val clips, PATH=SHARE of a batch"
    )
    training.add_argument("--output", required=True, help="folder for lip_sync.safetensors and lip_sync.json")
    for name, value in {"steps": 2000, "batch": 32, "seed": 0, "width": 64, "lip_width": 32, "size": 32}.items():
        training.add_argument(f"--{name}", type=int, default=value, help=f"default {value}")
    training.add_argument("--lr", type=float, default=3e-3, help="largest step size (default 0.003)")
    training.add_argument("--print_every", type=int, default=250, help="steps (default 250)")
    measuring = commands.add_parser("evaluate", help="print tables")
    measuring.add_argument("--weights", help="folder of the weights (default: the released ones)")
    measuring.add_argument("--lmdb", nargs="*", default=[], help="stores whose sound is in step with the lips")
    measuring.add_argument("--split", default="test", choices=[*schema.SPLITS, "all"], help="default test")
    measuring.add_argument("--shift", action="store_true", help="also with the sound moved by -10 to 10 frames")
    measuring.add_argument("--seed", type=int, default=0, help="of the shifts (default 0)")
    measuring.add_argument("--videos", help="folder of videos")
    measuring.add_argument(
        "--as_stored", action="store_true", help="take frames in order, whatever their time stamps say"
    )
    measuring.add_argument("--expected", help="CSV with columns name,frames: what the videos are said to have")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        if args.command == "train":
            train(args)
        else:
            probe = LipSync.load(args.weights)
            if args.lmdb:
                print_stores(probe, args)
            if args.videos:
                print_videos(probe, args)
    except (LipSyncError, StoreError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
