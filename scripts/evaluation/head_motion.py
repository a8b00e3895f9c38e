"""Held-out judgement of head motion: learn from one part of a person's video, compare new motion with another part.

A *case* is what is learnt from and one or more held-out stretches of the same speaker. Every row makes motion for the held-out sound
from what was learnt, and is compared with the real motion there: there is no one true motion, so distributions and spectra are
compared, and the beats' meeting with those of the sound.
"""

import io
from dataclasses import dataclass

import numpy as np
import soundfile

from data_process.poses import cepstra, stretch
from data_process.store import Store
from deep_3drecon.track import FPS
from models import pose_metrics
from models.background import assign, ping_pong
from models.behaviour import POSE, Behaviour, clip_curves
from models.headpose_habit import generate
from models.headpose_signal import speed_spectrum

LEARN_FRAMES = 300
LEAST_HELD_OUT, MOST_HELD_OUT = 125, 750
WINDOW_FRAMES, WINDOW_STEP = 50, 5  # of the search for replays
ROWS = ("ours", "tmm", "replay", "ping-pong", "still", "other speaker")


@dataclass
class Stretch:
    """One piece of a clip: curves (T, C), lids (T,), loudness (2 T, 1), cepstra (4 T + 24, 13)."""

    curves: np.ndarray
    closure: np.ndarray
    energy: np.ndarray
    cepstra: np.ndarray

    def cut(self, start, end):
        """Frames [start, end)."""
        rows = self.cepstra[4 * start : 4 * end + 24]
        return Stretch(self.curves[start:end], self.closure[start:end], self.energy[2 * start : 2 * end], rows)


@dataclass
class Case:
    """What is learnt, what is held out, and whose it is."""

    name: str
    speaker: str
    learn: Stretch
    held_out: list


def read_clip(store, split, index):
    """A clip of the store as `Stretch`."""
    curves, closure = clip_curves(store.track(split, index))
    n = len(curves)
    wav = soundfile.read(io.BytesIO(store.bytes(split, "audio", index)), dtype="float32")[0]
    rows = cepstra(wav)
    rows = np.pad(rows, ((0, max(0, 4 * n + 24 - len(rows))), (0, 0)), mode="edge")[: 4 * n + 24]
    return Stretch(curves, closure, store.array(split, "energy", index)[: 2 * n], rows)


def find_cases(path):
    """Cases of a store, by length: clips of 17 s and more are cut, their first or last 12 s learnt; else a speaker's longest clip of
    at least 8 s is learnt and the others of 5 s and more are held out. Clips with an emotion are left out."""
    store, cases, by_speaker = Store(path), [], {}
    for split in store.meta["splits"]:
        for index, info in enumerate(store.clips(split)):
            if info.get("emotion", "neutral") == "neutral":
                by_speaker.setdefault(info["speaker"], []).append((info["n_frames"], split, index, info["name"]))
    for speaker, clips in sorted(by_speaker.items()):
        long = [c for c in clips if c[0] >= LEARN_FRAMES + LEAST_HELD_OUT]
        for n, split, index, name in long:
            clip = read_clip(store, split, index)
            first = clip.cut(LEARN_FRAMES, min(n, LEARN_FRAMES + MOST_HELD_OUT))
            last = clip.cut(max(0, n - LEARN_FRAMES - MOST_HELD_OUT), n - LEARN_FRAMES)
            cases.append(Case(f"{name}:first", speaker, clip.cut(0, LEARN_FRAMES), [first]))
            cases.append(Case(f"{name}:last", speaker, clip.cut(n - LEARN_FRAMES, n), [last]))
        rest = sorted((c for c in clips if c[0] >= LEAST_HELD_OUT), reverse=True)
        if not long and len(rest) > 1 and rest[0][0] >= 200:
            clips = [read_clip(store, split, index) for _, split, index, _ in rest]
            cases.append(Case(rest[0][3], speaker, clips[0].cut(0, min(len(clips[0].curves), LEARN_FRAMES)), clips[1:]))
    return cases


def behaviours(cases):
    """{case name: Behaviour} measured on what is learnt."""
    return {
        c.name: Behaviour.of_curves(c.learn.curves, c.learn.closure, c.learn.energy, source=c.speaker) for c in cases
    }


def make(row, case, held, habits, tmm, seed):
    """Poses (T, 6) of one row for one held-out stretch, absolute; None where the row cannot be made."""
    n, learnt = len(held.curves), case.learn.curves[:, : len(POSE)]
    mean = learnt.mean(0)
    if row == "ours":
        return mean + generate(held.energy, habits[case.name], n, seed)[0][:, : len(POSE)]
    if row == "other speaker":
        others = [c for c in sorted(habits) if habits[c].source != case.speaker]
        other = others[(sum(map(ord, case.name)) + 7 * seed) % len(others)]
        return mean + generate(held.energy, habits[other], n, seed)[0][:, : len(POSE)]
    if row == "ping-pong":  # as the paper from the first frame on; other seeds begin elsewhere
        return learnt[ping_pong(len(learnt), n, start=seed * 61)]
    if row == "still":
        return np.repeat(mean[None], n, 0)
    if tmm is not None:
        motion = tmm.generate({"cepstra": held.cepstra}, stretch(learnt, LEARN_FRAMES), n)
        pose = mean + np.concatenate([motion["angle"], motion["trans"]], 1)
    elif row == "tmm":
        return None
    else:
        pose = make("ours", case, held, habits, tmm, seed)
    return pose if row == "tmm" else learnt[assign(learnt, pose, "keyframes")]


def compare(pose, held, learnt):
    """Metrics of poses (T, 6) against a held-out stretch; angles in degrees."""
    angle, true = pose[:, :3], held.curves[:, :3]
    near = pose_metrics.pose_histogram_distance(angle, true)
    beats = pose_metrics.audio_beats(held.energy)
    met, real = (pose_metrics.beat_alignment(x, beats) for x in (angle, true))
    jerk = [np.diff(np.degrees(x), 3, axis=0).std(0) for x in (angle, true)]
    return {
        "hs": near["hs"],
        "angle": near["angle"],
        "speed": near["speed"],
        "spectrum": pose_metrics.pose_spectrum_distance(angle, true)["mean"],
        "beat": met["score"],
        "beat_gap": abs(met["score"] - real["score"]),
        "jerk": float(np.exp(np.log(np.maximum(jerk[0], 1e-9) / jerk[1]).mean())),
        "nearest": nearest_window(angle, learnt[:, :3]),
        "pitch_correlation": correlation(angle[:, 0], true[:, 0]),
    }


def correlation(a, b):
    return float(np.corrcoef(a, b)[0, 1]) if min(a.std(), b.std()) > 1e-9 else float("nan")


def nearest_window(angle, learnt):
    """Mean over windows of 2 s of the distance to the nearest window learnt, degrees RMS: a replay has none."""

    def windows(x):
        x = np.degrees(x)
        return np.lib.stride_tricks.sliding_window_view(x, WINDOW_FRAMES, axis=0)[::WINDOW_STEP].reshape(
            -1, 3 * WINDOW_FRAMES
        )

    a, b = windows(angle), windows(learnt)
    b = np.lib.stride_tricks.sliding_window_view(np.degrees(learnt), WINDOW_FRAMES, axis=0).reshape(
        -1, 3 * WINDOW_FRAMES
    )
    square = (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)
    return float(np.sqrt(np.maximum(square, 0).min(1) / (3 * WINDOW_FRAMES)).mean())


def measure(cases, tmm=None, seeds=5):
    """Yield lines {"case", "speaker", "row", "seed", metrics}: means over a case's held-out stretches, all rows and the real motion."""
    habits = behaviours(cases)
    for case in cases:
        learnt = case.learn.curves
        for row in ("real", *ROWS):
            for seed in range(seeds if row in ("ours", "ping-pong", "other speaker") else 1):
                found = []
                for held in case.held_out:
                    pose = held.curves if row == "real" else make(row, case, held, habits, tmm, seed)
                    if pose is not None:
                        found.append(compare(pose, held, learnt))
                if found:
                    values = {name: float(np.mean([f[name] for f in found])) for name in found[0]}
                    yield {"case": case.name, "speaker": case.speaker, "row": row, "seed": seed, "frames": sum(
                        len(h.curves) for h in case.held_out)} | values  # fmt: skip


def retrieve(cases, seeds=3):
    """Yield lines {"case", "speaker", "row": "retrieval", "behaviour", distances}: held-out motion against that made with the behaviour
    of every speaker; own: that of the case, others: that of each speaker's first case."""
    habits = behaviours(cases)
    first = {}
    for case in cases:
        first.setdefault(case.speaker, case.name)
    for case in cases:
        for speaker, name in first.items():
            habit = habits[case.name if speaker == case.speaker else name]
            found = []
            for seed in range(seeds):
                for held in case.held_out:
                    made = generate(held.energy, habit, len(held.curves), seed)[0][:, :3]
                    true = held.curves[:, :3] - case.learn.curves[:, :3].mean(0)
                    near = pose_metrics.pose_histogram_distance(made, true)
                    spectra = [np.log10(speed_spectrum(x)[1:24]) for x in (made, true)]
                    found.append([near["angle"], near["speed"], np.abs(spectra[0] - spectra[1]).mean()])
            angle, speed, spectrum = np.mean(found, 0)
            yield {"case": case.name, "speaker": case.speaker, "row": "retrieval", "behaviour": speaker, "angle": float(angle),
                   "speed": float(speed), "spectrum": float(spectrum)}  # fmt: skip


def drift(habit, minutes=3, seeds=3):
    """How far motion to minutes of made-up speech leaves the range of the clip: shares and degrees, worst over seeds."""
    n = int(60 * minutes * FPS)
    rng = np.random.default_rng(0)
    level = (
        np.repeat(0.1 * rng.uniform(0.2, 1, 2 * n // 10 + 1), 10)[: 2 * n]
        * (rng.random(2 * n // 50 + 1) > 0.2).repeat(50)[: 2 * n]
    )
    worst = {"outside": 0.0, "beyond_deg": 0.0, "mean_deg": 0.0}
    for seed in range(seeds):
        angle = np.degrees(generate(level[:, None], habit, n, seed)[0][:, :3])
        low, high = np.degrees(habit.low[:3]), np.degrees(habit.high[:3])
        over = np.maximum(angle - high, low - angle).clip(0)
        thirds = np.array([part.mean(0) for part in np.array_split(angle, 3)])
        for name, value in (
            ("outside", (over > 0).any(1).mean()),
            ("beyond_deg", over.max()),
            ("mean_deg", np.abs(thirds).max()),
        ):
            worst[name] = max(worst[name], float(value))
    return worst
