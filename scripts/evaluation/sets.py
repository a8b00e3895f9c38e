"""Values that belong to all clips of a row together: Fréchet distances, style retrieval of joined clips, how well a style steers, what
other seeds change. No interval comes with them."""

import numpy as np

from deep_3drecon.track import FPS
from models.distribution_metrics import diversity, frechet_distance, frechet_floor, motion_windows
from models.pose_metrics import blink_distance, blink_statistics
from models.style_metrics import clip_groups
from scripts.evaluation import control
from scripts.evaluation.arrays import load_arrays
from scripts.evaluation.units import JUDGE, SET_CLIP

JOINED_S = 10.0
LIP_WINDOW = 10  # frames: longer than a sound, shorter than a word
LEAST_STD = 0.01  # of a coefficient: ones that hardly move in the training corpus nor here are not blown up


def measure(bench, lines, folder):
    """Lines [{clip: SET_CLIP, row, seed, metric: value}, ...] of every row and seed."""
    done = [line for line in lines.lines if line["clip"] != SET_CLIP and "failure" not in line]
    arrays = {(x["clip"], x["row"], x["seed"]): load_arrays(folder, x) for x in done}
    real = {clip: found for (clip, row, _), found in arrays.items() if row == "real"}
    out = []
    for row, seed in dict.fromkeys((line["row"], line["seed"]) for line in done):
        mine = {clip: found for (clip, r, s), found in arrays.items() if (r, s) == (row, seed) and clip in real}
        values = {}
        if mine and all("exp" in found for found in mine.values()):
            values |= motion_sets(bench, row, mine, real)
        values |= picture_sets(bench, row, mine, real)
        if (row, seed) == ("generated", bench.config.seeds[0]):
            values |= control.measure(bench) | seed_changes(bench, arrays)
        values = {k: v for k, v in values.items() if k not in bench.config.skip}
        if values:
            out.append({"clip": SET_CLIP, "row": row, "seed": seed, **values})
    return out


def motion_sets(bench, row, mine, real):
    """Fréchet distance of the frames' expressions, z-scored by what varies more, the training corpus or the truth.

    Of the real row, its floor: one half of its frames against the other.
    """
    true = np.concatenate([real[clip]["exp"][real[clip]["valid"]] for clip in mine])
    std = np.maximum(np.maximum(bench.method.stats["exp"]["std"], true.std(0)), LEAST_STD)
    true = true / std
    if row == "real":
        values = {"frechet_motion": frechet_floor(true)}
    else:
        made = np.concatenate([found["exp"][real[clip]["valid"]] / std for clip, found in mine.items()])
        values = {"frechet_motion": frechet_distance(made, true)} | blinks(bench, mine, real)
    values["frechet_lips"] = lip_distance(mine, real, row == "real")
    return {k: v for k, v in values.items() if np.isfinite(v)} | joined_retrieval(bench, mine)


def blinks(bench, mine, real):
    """Distances of the pauses between blinks and of their durations from those of the real row, all clips together."""
    pools = []
    for source in (mine, real):
        closing = {clip: source[clip]["exp"][:, bench.shape.lids].mean(1) for clip in mine}
        found = [blink_statistics(closing[clip], FPS, real[clip]["valid"]) for clip in mine]
        pools.append({k: np.concatenate([x[k] for x in found]) for k in ("durations_s", "intervals_s")})
    distance = blink_distance(*pools)
    return {"blink_pauses_s": distance["intervals_s"], "blink_lengths_s": distance["durations_s"]}


def lip_distance(mine, real, is_real):
    """Fréchet distance of the lips' windows, which sees their pace; of the real row, its floor."""
    made, true = ({c: np.stack([x[c]["opening"], x[c]["width"]], 1) for c in mine} for x in (mine, real))
    valid = {clip: real[clip]["valid"] for clip in mine}
    std = np.maximum(np.concatenate([true[clip][valid[clip]] for clip in mine]).std(0), 1e-3)

    def windows(curves):
        cut = [motion_windows(curves[clip] / std, LIP_WINDOW, LIP_WINDOW // 2, valid[clip])[0] for clip in mine]
        return np.concatenate(cut)

    return frechet_floor(windows(true)) if is_real else frechet_distance(windows(made), windows(true))


def seed_changes(bench, arrays):
    """What the seed changes, mean over clips: RMS difference of the head's angles and of the lip opening between seeds."""
    heads, lips = [], []
    for clip in dict.fromkeys(clip for clip, row, _ in arrays if row == "generated"):
        mine = [found for (c, row, _), found in arrays.items() if (c, row) == (clip, "generated") and "angle" in found]
        if len(mine) > 1:
            heads.append(np.degrees(diversity([found["angle"] for found in mine])))
            lips.append(diversity([found["opening"][:, None] for found in mine]))
    return {"seed_head_deg": float(np.mean(heads)), "seed_lips_mm": float(np.mean(lips))} if heads else {}


def joined_retrieval(bench, mine):
    """R@1 of a speaker's clips taken together until they last JOINED_S."""
    cases = [case for case in bench.cases if case.name in mine]
    if not bench.gallery.usable or not cases:
        return {}
    frames = np.array([len(case.window) for case in cases])
    hits = []
    for group in clip_groups([case.speaker for case in cases], frames, JOINED_S * FPS):
        code = np.average([mine[cases[k].name]["code"] for k in group], 0, frames[group])
        rank = bench.gallery.rank(code, [cases[k] for k in group], bench.codes)
        if np.isfinite(rank):
            hits.append(rank <= 1)
    return {"style_r1_joined": float(np.mean(hits)), "joined_queries": len(hits)} if hits else {}


def picture_sets(bench, row, mine, real):
    """Distances of sets of frames by the judges that compare sets; of the real row, nothing."""
    out = {}
    for name, judge in bench.judges.items():
        key = f"embedding_{name}"
        if judge.kind == "set" and row != "real" and mine and all(key in x for x in mine.values()):
            sets = [np.concatenate([x[clip][key] for clip in mine]) for x in (real, mine)]
            out[JUDGE + name] = float(judge.compare(*sets))
    return out
