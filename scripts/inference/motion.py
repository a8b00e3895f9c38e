"""Sound, style and wishes -> the motion of one video, and the motion on disk."""

import numpy as np

from deep_3drecon.track import FPS, resample
from models.background import ping_pong
from models.behaviour import Behaviour
from models.headpose import PORTRAIT_SWAY, generate_motion, lay_over
from models.style import Style

POSE_PARTS = ("angle", "trans")


def reference_pose(track, n_frames):
    """Head motion of a track about its mean, n_frames long at 25 fps: {"angle": (T, 3), "trans": (T, 3)}."""
    parts = track.parts()
    motion = {name: resample(parts[name].astype(np.float64), track.fps, FPS) for name in POSE_PARTS}
    order = ping_pong(len(motion["angle"]), n_frames)
    return {name: (x - x.mean(0))[order].astype(np.float32) for name, x in motion.items()}


def head_source(args, person, reference):
    """Whose head moves how: ("behaviour", Behaviour), ("track", FaceTrack), or ("sound", None): what the method hears.

    reference: FaceTrack of --ref_pose, or None.
    """
    if args.pose == "from_video":
        return "track", reference or person.track.select(slice(*person.learning))
    if args.pose == "generated" and reference is not None:
        return "behaviour", Behaviour.measure(reference, source=args.ref_pose.name)
    if args.pose == "generated" and person is not None and person.behaviour is not None:
        return "behaviour", person.behaviour
    return "sound", None


def generate(method, features, style, n_frames, args, head=("sound", None)):
    """Motion {"exp" (T, E), "angle" (T, 3), "trans" (T, 3)} of one style under the command line's wishes.

    Angles and translations are about the head's rest. head: as `head_source` gives it.
    """
    kind, source = head
    blinks = not args.no_blinks
    motion = method.generate(features, style, n_frames, seed=args.seed, blinks=blinks and kind != "behaviour")
    if kind == "track":
        motion |= reference_pose(source, n_frames)
    elif kind == "behaviour":
        sway = 1.0 if args.person else PORTRAIT_SWAY  # a portrait's shoulders stand still
        habit = generate_motion(features, source, n_frames, args.seed, sway=sway)
        habit["closure"] = habit["closure"] * np.float32(blinks)
        motion = {name: habit[name] for name in POSE_PARTS} | {
            "exp": lay_over(motion["exp"], habit, method.face.expression_names)
        }
    strength = np.float32(0.0 if args.pose == "still" else args.pose_scale)
    return motion | {name: motion[name] * strength for name in POSE_PARTS}


def generate_between(method, features, styles, shares, n_frames, args, head=("sound", None)):
    """As `generate`, in a style that goes from one mixture of two styles to another: (motion, Style halfway).

    shares: (first, last) of the second style. Blinks, and a head that another source moves, are those of the style halfway; the rest is the
    mixture of what each style says of every frame.
    """
    middle = Style.interpolate(*styles, float(np.mean(shares)))
    motion = generate(method, features, middle, n_frames, args, head)
    if shares[0] == shares[1]:
        return motion, middle
    share = np.linspace(*shares, n_frames, dtype=np.float32)[:, None]
    first, second, plain = (method.generate(features, s, n_frames, blinks=False) for s in (*styles, middle))
    strength = np.float32(0.0 if args.pose == "still" else args.pose_scale)
    factors = {"exp": np.float32(1)} | (dict.fromkeys(POSE_PARTS, strength) if head[0] == "sound" else {})
    for name, factor in factors.items():
        motion[name] = motion[name] + factor * ((1 - share) * first[name] + share * second[name] - plain[name])
    if method.face.name == "open":
        motion["exp"] = motion["exp"].clip(0, 1)
    return motion, middle


def save_motion(path, motion, method, style, args):
    """The motion as npz: coefficients, rates, face model, and what made it."""
    part = path.with_name(path.name + ".part.npz")
    np.savez_compressed(
        part, **motion, fps=FPS, face_model=method.face.name, face_model_hash=method.face.hash, style=style.vector(),
        style_source=style.source, style_scale=args.style_scale, seed=args.seed,
    )  # fmt: skip
    part.replace(path)
