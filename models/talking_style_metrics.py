"""How far a made mesh is from the true one, by the protocols of the papers, with mm beside their units.

    row = clip_metrics(pred, true, template, topology facts)           # one clip
    table = pooled(rows, "codetalker")                                 # what a paper prints

A protocol says which lips, which unit, what is pooled:
    ours        LVE in mm, FDD in mm, absolute, means over clips
    codetalker  LVE: mean over ALL frames of the largest SQUARED lip distance, unit^2; FDD of squared displacements, signed, mean
                over clips (CodeTalker, FaceFormer, TalkingStyle)
    diffspeaker, unitalker  the same LVE averaged within each clip, then over clips
    imitator    largest lip distance, not squared, mm, over all frames
Papers print "mm" over unit^2: `root_mm` is what such a number means in mm.
"""

import numpy as np

from models import metrics

PROTOCOLS = ("ours", "codetalker", "diffspeaker", "unitalker", "imitator")


class ProtocolError(ValueError):
    """A protocol that is unknown, or regions that it needs."""


def clip_metrics(pred, true, template, lips, upper, unit_mm, fps, aperture=None):
    """Numbers of one clip: pred, true (T, V, 3) in a unit of unit_mm, template (V, 3), regions as vertex ids.

    lve_mm: mean over frames of the largest lip distance; lve_squared_sum and frames: for pooling, in unit^2; mve_mm over all
    vertices, lips_mm over the lips; velocity_mm_s of the lips; fdd_*: see `metrics.upper_face_dynamics`; opening_* of the lips.
    """
    n = min(len(pred), len(true))
    pred, true = np.asarray(pred[:n], np.float32), np.asarray(true[:n], np.float32)
    worst = np.linalg.norm(pred[:, lips] - true[:, lips], axis=-1).max(-1).astype(np.float64)
    lip_pair = [x[:, lips] * unit_mm for x in (pred, true)]
    out = {
        "frames": n,
        "lve_mm": float(worst.mean() * unit_mm),
        "lve_squared_sum": float((worst**2).sum()),
        "lve_sum": float(worst.sum()),
        "mve_mm": float(np.linalg.norm(pred - true, axis=-1).mean() * unit_mm),
        "lips_mm": metrics.mean_vertex_error(*lip_pair),
        "velocity_mm_s": metrics.velocity_error(*lip_pair, fps=fps)["velocity"],
    }
    if upper is not None and len(upper):
        moved = [np.linalg.norm(x[:, upper] - template[upper], axis=-1) for x in (pred, true)]
        plain, legacy = moved[1].std(0) - moved[0].std(0), (moved[1] ** 2).std(0) - (moved[0] ** 2).std(0)
        out["fdd_signed_unit2"], out["fdd_absolute_unit2"] = float(legacy.mean()), float(np.abs(legacy).mean())
        out["fdd_signed_mm"], out["fdd_absolute_mm"] = (float(x.mean() * unit_mm) for x in (plain, np.abs(plain)))
    if aperture is not None:
        gaps = [
            np.linalg.norm(x[:, aperture[:, 0]] - x[:, aperture[:, 1]], axis=-1).mean(-1) * unit_mm
            for x in (pred, true)
        ]
        out["opening_correlation"] = metrics.correlation(*gaps)
        out["opening_ratio"] = metrics.opening_ratio(*gaps)
    return out


def pooled(rows, protocol, unit_mm):
    """Numbers of a set of clips as a protocol pools them -> {"lve", "lve_root_mm", "fdd", "clips", "frames"}.

    lve in the protocol's unit (unit^2, or mm for ours and imitator), lve_root_mm the same as a distance in mm.
    """
    if protocol not in PROTOCOLS:
        raise ProtocolError(f"protocol {protocol!r} came, there is {', '.join(PROTOCOLS)}: use one of these names")
    frames = sum(row["frames"] for row in rows)
    if protocol == "ours":
        lve = root = float(np.mean([row["lve_mm"] for row in rows]))
    elif protocol == "imitator":
        lve = root = sum(row["lve_sum"] for row in rows) / frames * unit_mm
    else:
        per_clip = [row["lve_squared_sum"] / row["frames"] for row in rows]
        pool = sum(row["lve_squared_sum"] for row in rows) / frames
        lve = pool if protocol == "codetalker" else float(np.mean(per_clip))
        root = float(np.sqrt(lve) * unit_mm)
    key = "fdd_absolute_mm" if protocol == "ours" else "fdd_signed_unit2"
    fdd = [row[key] for row in rows if key in row]
    return {
        "lve": float(lve), "lve_root_mm": float(root), "fdd": float(np.mean(fdd)) if fdd else float("nan"),
        "clips": len(rows), "frames": frames,
    }  # fmt: skip


def motion_style(coefficients, fps):
    """Manner of a motion (T, K) as plain statistics: rest, spread and spread of the change at 25 fps -> (3 K,) float32.

    A frozen measure, not the network's own encoder: what is generated is not judged by what made it.
    """
    x = np.asarray(coefficients, np.float64)
    change = np.diff(x, axis=0) * (fps / 25.0) if len(x) > 1 else np.zeros_like(x)
    return np.concatenate([x.mean(0), x.std(0), change.std(0)]).astype(np.float32)


def diversity(conditions):
    """FaceDiffuser's: mean over pairs of conditions of the mean vertex distance, in the unit; (N, T, V, 3)."""
    n = len(conditions)
    if n < 2:
        return float("nan")
    pairs = [
        np.linalg.norm(np.asarray(conditions[i]) - np.asarray(conditions[j]), axis=-1).mean()
        for i in range(n)
        for j in range(i + 1, n)
    ]
    return float(np.mean(pairs))
