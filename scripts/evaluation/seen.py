"""What is measured on the pictures of a row, against those of the real video of the same window."""

import numpy as np

from deep_3drecon.track import FPS
from deepspeech.lip_sync import lip_shape
from models import image_metrics, metrics, pose_metrics
from models.blur_detection import cpbd
from models.judges import JUDGES
from scripts.evaluation.sources import ProtocolError
from scripts.evaluation.units import JUDGE

LIDS = (
    ((37, 41), (38, 40)),
    ((43, 47), (44, 46)),
)  # upper and lower lid of the 68 points, subject's right and left eye
EYE_CORNERS = ((36, 39), (42, 45))


def open_judges(names, device="cpu"):
    """{name: judge} of models.judges; says what is missing for those that cannot be asked."""
    unknown = sorted(set(names) - set(JUDGES))
    if unknown:
        raise ProtocolError(f"judges {unknown} came, there is {', '.join(sorted(JUDGES))}: use these names")
    judges = {name: JUDGES[name](device=device) for name in names}
    missing = {name: judge.missing() for name, judge in judges.items() if judge.missing()}
    if missing:
        raise ProtocolError("; ".join(f"judge {name}: {what}" for name, what in missing.items()))
    loud = [name for name, judge in judges.items() if judge.kind == "sound"]
    if loud:
        raise ProtocolError(
            f"judges {loud} compare film and sound, here films are compared: ask them through models.judges"
        )
    return judges


def own_measures(seen, truth, probe):
    """What a video says alone, beside its sound: ({metric: value}, curves)."""
    found = probe.measure(truth.features, lip_shape(seen.points), seen.valid)
    blinks = pose_metrics.blink_statistics(lid_closure(seen.points, seen.valid), FPS, seen.valid)
    values = {
        "sync_offset": found.offset_frames,
        "sync_confidence": found.confidence,
        "sync_score": found.score,
        "video_blinks_per_minute": blinks["per_minute"],
    }
    if seen.valid.any():
        values["cpbd"] = image_metrics.pool(cpbd(seen.face[seen.valid]))["mean"]
    return values, {"sync_curve": found.curve, "seen_opening": lip_shape(seen.points)[:, 0]}


def error_measures(seen, real, judges):
    """How far a video is from the real one: {metric: value}. Frames in which either shows no face are left out."""
    both = seen.valid & real.valid
    if not both.any():
        return {}
    opening, true_opening = (lip_shape(x.points)[:, 0] for x in (seen, real))
    distance = metrics.landmark_distance(seen.points_in_crop, real.points_in_crop, both)
    values = {
        "video_opening_correlation": metrics.correlation(opening, true_opening, both),
        "video_opening_ratio": metrics.opening_ratio(opening, true_opening, both),
        "lmd": distance["whole"],
        "lmd_mouth": distance["mouth"],
        "lmd_mouth_px": distance["mouth_px"],
        "lmd_shape": distance["shape"],
    }
    return values | picture_measures(seen, real, both) | judge_measures(seen, real, both, judges)


def picture_measures(seen, real, both):
    """Image metrics on the face crop and on the mouth crop."""
    face, true_face, mouth, true_mouth = seen.face[both], real.face[both], seen.mouth[both], real.mouth[both]
    sharp = [image_metrics.pool(image_metrics.sharpness(x))["mean"] for x in (face, true_face)]
    return {
        "psnr_face": image_metrics.pool(image_metrics.psnr(true_face, face))["mean"],
        "ssim_face": image_metrics.pool(image_metrics.ssim(true_face, face))["mean"],
        "ms_ssim_face": image_metrics.pool(image_metrics.ms_ssim(true_face, face))["mean"],
        "colour_face": image_metrics.pool(image_metrics.colour_difference(true_face, face))["mean"],
        "psnr_mouth": image_metrics.pool(image_metrics.psnr(true_mouth, mouth))["mean"],
        "ssim_mouth": image_metrics.pool(image_metrics.ssim(true_mouth, mouth))["mean"],
        "sharpness": sharp[0] / sharp[1] if sharp[1] else float("nan"),
        # consecutive frames are needed here, so those without a face stay in
        "temporal_face": image_metrics.pool(image_metrics.temporal_difference(real.face, seen.face))["mean"],
        "flicker": image_metrics.flicker(real.face, seen.face),
    }


def judge_measures(seen, real, both, judges):
    """Mean distances of the face crops by the networks of frames that were asked for."""
    out = {}
    for name, judge in judges.items():
        if judge.kind == "frame":
            points = (x.points_in_crop[both] for x in (real, seen))
            out[JUDGE + name] = image_metrics.pool(judge.distance(real.face[both], seen.face[both], *points))["mean"]
    return out


def embeddings(seen, judges):
    """{"embedding_<judge>": (T, D)} of the networks that compare sets of frames; the sets are put together at the end."""
    sets = {name: judge for name, judge in judges.items() if judge.kind == "set"}
    return {f"embedding_{name}": judge.embed(seen.face, seen.points_in_crop) for name, judge in sets.items()}


def lid_closure(points, valid):
    """Lid closure (T,), 0 open as usual in this video, 1 shut, from 68 points (T, 68, 2): opening of both eyes over their width."""
    ratios = []
    for pairs, corners in zip(LIDS, EYE_CORNERS, strict=True):
        height = np.mean([np.linalg.norm(points[:, a] - points[:, b], axis=-1) for a, b in pairs], 0)
        width = np.linalg.norm(points[:, corners[0]] - points[:, corners[1]], axis=-1)
        ratios.append(height / np.maximum(width, 1e-6))
    ratio = np.mean(ratios, 0)
    usual = np.quantile(ratio[valid], 0.7) if valid.any() else 1.0
    return 1 - np.clip(ratio / max(usual, 1e-6), 0, 1)
