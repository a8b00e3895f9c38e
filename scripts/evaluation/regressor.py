"""How far the face regressor is off: on made people it has never seen, on clips against the fit of landmarks, and in gaps."""

import time
from dataclasses import replace

import numpy as np
import torch

from data_process.face_tracks import track_landmarks
from data_process.lost_frames import fill_lost, see
from data_process.made_crop_batches import rotation_angle
from data_process.made_turns import TEN
from data_process.visemes import lip_gap
from deep_3drecon import camera
from deep_3drecon.face_model import load_face_model
from deep_3drecon.fit import fill_gaps
from deep_3drecon.open_regressor import SIZE, face_crop
from scripts.evaluation.rigid import rigidly

YAW_LIMITS = (0, 20, 40, 60, 90)  # degrees
ROUGH = 0.06  # of the face's width, how far the crop of a clip is moved and scaled at random
GAP_FRAMES = (4, 8, 16, 32)
BESIDE_GAP = 14  # frames that stay, at least, between two gaps


def people_row(regressor, data, hard, n, seed=0):
    """Errors over n crops of unseen made people -> dict. hard: see `made_crops.draw_crop`."""
    rng, face = np.random.default_rng(seed), load_face_model("open")
    numbers = rng.choice(len(data), min(n, len(data)), replace=False)
    batch, person = data.crops(numbers, rng, hard), np.array([data.places[k][0] for k in numbers])
    guess, seen = regressor.predict(batch["crops"].numpy()), batch["present"].numpy()
    turned = camera.rotation_matrix(torch.from_numpy(guess.angle))
    degrees = rotation_angle(turned, batch["rotation"]).numpy()
    yaw = np.rad2deg(np.abs(camera.euler_angles(batch["rotation"])[:, 1].numpy()))
    exp = batch["exp"].numpy()
    gap = lip_gap(face).exp
    row = {"crops": int(seen.sum()), "rotation, degrees": degrees[seen].mean(), "median": np.median(degrees[seen])}
    for low, high in zip(YAW_LIMITS, YAW_LIMITS[1:], strict=False):
        row[f"yaw {low}-{high}"] = degrees[seen & (yaw >= low) & (yaw < high)].mean()
    # one picture does not tell a wide mouth from a smile; a clip of a person does, and there only changes matter
    moved, truly = (about_person(values[seen], person[seen]) for values in (guess.exp, exp))
    channels = {c: correlation(moved[:, face.index(c)], truly[:, face.index(c)]) for c in TEN}
    row |= {
        "mouth channels, mean r": np.mean(list(channels.values())),
        "lip opening r": correlation(moved @ gap, truly @ gap),
    }
    row["lip opening, mm"] = np.abs((guess.exp - exp)[seen] @ gap).mean()
    row |= vertex_errors(face, guess, batch, np.flatnonzero(seen)[:256])
    row["expects its rotation error, r"] = correlation(np.log(guess.rotation_error[seen]), np.log(degrees[seen]))
    if not seen.all():
        row["faces told"] = (guess.presence[seen] > 0.5).mean()
        row["no faces told"] = (guess.presence[~seen] <= 0.5).mean()
    return row, channels


def about_person(values, person):
    """Values (n, k) less the mean of those of the same person (n,)."""
    _, index, count = np.unique(person, return_inverse=True, return_counts=True)
    total = np.zeros((len(count), values.shape[1]))
    np.add.at(total, index, values)
    return values - (total / count[:, None])[index]


def vertex_errors(face, guess, batch, rows):
    """Mean distance in mm of face and lip vertices after rigid alignment, and of the mean face without expression."""
    out = {}
    ids = torch.from_numpy(face.regions["face"])
    lips = np.isin(face.regions["face"], face.regions["lips"])
    with torch.no_grad():
        true = face.vertices(batch["id"][rows], batch["exp"][rows])[:, ids]
        made = face.vertices(torch.from_numpy(guess.id[rows]), torch.from_numpy(guess.exp[rows]))[:, ids]
        for name, points in (("", made), ("mean face: ", face.mean[ids].expand_as(true))):
            off = camera.MM_PER_DM * np.linalg.norm(rigidly(points.numpy(), true.numpy()) - true.numpy(), axis=-1)
            out |= {f"{name}face, mm": off.mean().item(), f"{name}lips, mm": off[:, lips].mean().item()}
    return out


def clip_row(regressor, landmarks, frames, every=2, seed=0):
    """Guesses from rough crops of a clip against the fit of its landmarks -> dict.

    landmarks: LandmarkTrack; frames: iterable of all frames; every: which are looked at.
    """
    rng, face = np.random.default_rng(seed), load_face_model("open")
    track = track_landmarks(landmarks)
    chosen = np.flatnonzero(track.valid)[::every]
    rough = track.select(slice(None))
    middle = track.landmarks.mean(1, keepdims=True)
    width = np.ptp(track.landmarks[..., 0], axis=1)[:, None, None]
    scale = np.exp(rng.normal(0, ROUGH, (len(track), 1, 1)))
    shift = width * rng.normal(0, ROUGH, (len(track), 1, 2))
    rough.landmarks = middle + shift + scale * (track.landmarks - middle)
    seen = see(rough, chosen, frames, regressor, face)
    parts = {name: value[chosen].astype(np.float64) for name, value in track.parts().items()}
    turns = torch.from_numpy(seen["rotation"])
    fitted = camera.rotation_matrix(torch.from_numpy(parts["angle"]))
    angle = camera.euler_angles(turns).numpy()
    away = angle - parts["angle"]
    steady = camera.rotation_matrix(torch.from_numpy(angle - np.median(away, 0)))
    gap = lip_gap(face).exp
    row = {"frames": len(chosen), "rotation, degrees": rotation_angle(turns, fitted).mean().item()}
    row["without its median"] = rotation_angle(steady, fitted).mean().item()
    for name, k in (("pitch r", 0), ("yaw r", 1), ("roll r", 2)):
        row[name] = correlation(angle[:, k], parts["angle"][:, k])
    row["lip opening r"] = correlation(seen["exp"] @ gap, parts["exp"] @ gap)
    row["lip opening, mm"] = np.abs((seen["exp"] - parts["exp"]) @ gap).mean()
    row["presence"] = float((seen["presence"] > 0.5).mean())
    return row


def punched(valid, seed=0):
    """The same (T,) bool with gaps of GAP_FRAMES in turn, and their [(start, stop), ...]."""
    rng, out, made = np.random.default_rng(seed), valid.copy(), []
    start = BESIDE_GAP
    lengths = rng.permutation(GAP_FRAMES)
    while True:
        length = int(lengths[len(made) % len(lengths)])
        if start + length + BESIDE_GAP > len(valid):
            return out, made
        if valid[start : start + length].all():
            made.append((start, start + length))
            out[start : start + length] = False
        start += length + BESIDE_GAP + int(rng.integers(4))


def gap_errors(regressor, landmarks, frames, seed=0):
    """Errors in gaps cut into a clip, line and regressor -> [{"length", "line": {...}, "regressor": {...}}, ...].

    frames: a callable that gives an iterable of all frames. The fit of all landmarks counts as true.
    """
    face, whole = load_face_model("open"), track_landmarks(landmarks)
    valid, made = punched(np.asarray(landmarks.valid), seed)
    if not made:
        return []
    holed = track_landmarks(without(landmarks, valid))
    # the fits differ a little in identity: what they differ by beside the gaps is not the gap's
    results = {"line": holed, "regressor": fill_lost(holed, frames(), regressor)}
    rows = []
    for start, stop in made:
        rows.append(
            {"length": stop - start} | {k: errors(t, whole, slice(start, stop), face) for k, t in results.items()}
        )
    return rows


def without(landmarks, valid):
    """The LandmarkTrack as if only `valid` frames had been found."""
    points, scores = fill_gaps(landmarks.points, valid), fill_gaps(landmarks.scores, valid)
    return replace(landmarks, points=points.astype(np.float32), scores=scores.astype(np.float32), valid=valid)


def errors(track, true, frames, face):
    """Degrees and mm by which a track is off another in some frames; and both lip openings, mm."""
    a, b = ({k: torch.from_numpy(v[frames]).double() for k, v in t.parts().items()} for t in (track, true))
    turns = [camera.rotation_matrix(p["angle"]) for p in (a, b)]
    opening = [p["exp"].numpy() @ lip_gap(face).exp for p in (a, b)]
    return {
        "degrees": rotation_angle(*turns).mean().item(),
        "lip mm": float(np.abs(opening[0] - opening[1]).mean()),
        "exp": float((a["exp"] - b["exp"]).abs().mean()),
        "openings": opening,
    }


def correlation(a, b):
    """Pearson; NaN where one does not move."""
    return float(np.corrcoef(a, b)[0, 1]) if min(np.std(a), np.std(b)) > 1e-9 else float("nan")


def speed(regressor, n=256):
    """Milliseconds: a crop out of a frame of 256 px and of 1280 x 720, a guess alone, and one of 64 at once."""
    rng, out = np.random.default_rng(0), {}
    for name, (width, height) in {"crop of 256 x 256": (256, 256), "crop of 1280 x 720": (1280, 720)}.items():
        frame = rng.integers(0, 255, (height, width, 3)).astype(np.uint8)
        scale = 224 / (0.9 * height)
        affine = np.array([[scale, 0, 112 - scale * width / 2], [0, scale, 112 - scale * height / 2]])
        out[name] = _milliseconds(lambda frame=frame, affine=affine: face_crop(frame, affine), n)
    crops = rng.integers(0, 255, (64, SIZE, SIZE)).astype(np.uint8)
    out["guess alone"] = _milliseconds(lambda: regressor.predict(crops[:1]), n // 4)
    out["guess among 64"] = _milliseconds(lambda: regressor.predict(crops), n // 32) / 64
    return out


def _milliseconds(call, n):
    call()
    times = []
    for _ in range(n):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))
