"""Sound, style and wishes -> the motion of one video, and the motion on disk."""

import numpy as np

from deep_3drecon.track import FPS, resample

POSE_PARTS = ("angle", "trans")


def back_and_forth(length, n_frames):
    """Indices (n_frames,) that run through `length` frames forwards and backwards."""
    order = np.arange(n_frames) % max(2 * length - 2, 1)
    return np.where(order < length, order, 2 * length - 2 - order)


def reference_pose(track, n_frames):
    """Head motion of a track about its mean, n_frames long at 25 fps: {"angle": (T, 3), "trans": (T, 3)}."""
    parts = track.parts()
    motion = {name: resample(parts[name].astype(np.float64), track.fps, FPS) for name in POSE_PARTS}
    order = back_and_forth(len(motion["angle"]), n_frames)
    return {name: (x - x.mean(0))[order].astype(np.float32) for name, x in motion.items()}


def generate(method, features, style, n_frames, args, pose=None):
    """Motion {"exp" (T, E), "angle" (T, 3), "trans" (T, 3)} of one style under the command line's wishes.

    Angles and translations are about the head's rest. pose: replaces those that the method hears.
    """
    motion = method.generate(features, style, n_frames, seed=args.seed, blinks=not args.no_blinks)
    motion |= pose or {}
    strength = 0.0 if args.pose == "still" else args.pose_scale
    return motion | {name: motion[name] * np.float32(strength) for name in POSE_PARTS}


def save_motion(path, motion, method, style, args):
    """The motion as npz: coefficients, rates, face model, and what made it."""
    part = path.with_name(path.name + ".part.npz")
    np.savez_compressed(
        part, **motion, fps=FPS, face_model=method.face.name, face_model_hash=method.face.hash, style=style.vector(),
        style_source=style.source, style_scale=args.style_scale, seed=args.seed,
    )  # fmt: skip
    part.replace(path)
