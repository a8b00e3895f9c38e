"""Pixels and a learnt look at the clip together: the correction of `clip_regressor` is followed where the clip's pixels bear it out.

How far fitted landmarks are from found ones does not tell: on films of made people, whose truth is known, found landmarks are two
to three hundredths of the eyes' distance beside their places, and the fit bends the face to them. Two things tell more. The skin
has to keep its colour about as well as without the correction; and the network says twice where the face is, by coefficients
and by landmarks, which agree on people like those it has learnt from. Where either fails the result is that of
`photometric.refine_clip` alone.
"""

from dataclasses import replace
from functools import cache

import numpy as np

from deep_3drecon.clip_regressor import ClipRegressor, refit, unbiased
from deep_3drecon.clip_views import POINTS, Viewer, corrected
from deep_3drecon.photometric import LEAST_KEYS, Known, photometric_residual, refine_clip

# px of the canonical crop; four of five made people whom the network has not seen are under it. Real ones who keep their colour are
# over it: on them the corrected lips moved less like those found
MOST_DISAGREEMENT = 0.82
# times the residual of pixels alone: these bend a face until its skin keeps its colour, and the true face has 1.03 to 1.13 of it
MOST_PIXELS = 1.05
ENOUGH = 120  # frames of a clip by which it is decided


def refine_learned(track, frames, model, bias=None, noise=None, regressor=None):
    """`photometric.refine_clip` from where the regressor of clips sees the face: (FaceTrack, whether it was followed).

    track: of the open head. Arguments as there. regressor: a `ClipRegressor`, without one the released.
    """
    if track.valid.sum() < LEAST_KEYS:
        return refine_clip(track, frames, model, bias, noise), False
    wanted = (regressor or released()).correct(track, frames, model, bias)
    every = -(-len(track) // ENOUGH)
    if every == 1 or track.valid[::every].sum() < LEAST_KEYS:
        return _decided(track, frames, wanted, model, bias, noise)
    some = replace(track.select(slice(None, None, every)), fps=track.fps / every)

    def seldom():
        return (frame for t, frame in enumerate(frames() if callable(frames) else frames) if t % every == 0)

    _, good = _decided(some, seldom, wanted.select(slice(None, None, every)), model, bias, noise)
    if not good:
        return refine_clip(track, frames, model, bias, noise), False
    return _followed(frames, wanted, refit(track, wanted, model, bias, noise), model, bias, noise), True


def _decided(track, frames, wanted, model, bias, noise):
    """Refined track, and whether its pixels bear the correction out."""
    plain, start = refine_clip(track, frames, model, bias, noise), refit(track, wanted, model, bias, noise)
    if disagreement(start, wanted, model) > MOST_DISAGREEMENT:
        return plain, False
    refined = _followed(frames, wanted, start, model, bias, noise)
    most = MOST_PIXELS * photometric_residual(plain, frames, model)
    return (refined, True) if photometric_residual(refined, frames, model) <= most else (plain, False)


def _followed(frames, wanted, start, model, bias, noise):
    """The track refined from `start`, where the correction puts it."""
    moved = tuple(corrected(model.expression_names))
    known = Known(moved, landmarks=wanted.landmarks(unbiased(start, bias)))
    return refine_clip(start, frames, model, bias, noise, known)


def disagreement(track, correction, model):
    """Mean distance of the corrected face's landmarks from the places the network gives them, px of the canonical crop."""
    fitted = Viewer(model).fitted(track)[:, POINTS].numpy()
    return float(np.linalg.norm(fitted - correction.places, axis=-1)[track.valid].mean())


@cache
def released():
    """The released regressor, loaded once in a process."""
    return ClipRegressor.load()
