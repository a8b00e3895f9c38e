"""Disturbances of a training batch that keep it true: other loudness, colour of sound, strength of the speaker.

All functions take tensors and draw from torch's global generator, whose state a training run saves.
"""

import math

import torch

DB_TO_LOG_POWER = math.log(10) / 10


def expression_groups(names):
    """Group of each ARKit name, (E,) int64: 0 mouth, jaw, cheek, nose, tongue; 1 eyes; 2 brows."""
    return torch.tensor([1 if n.startswith("eye") else 2 if n.startswith("brow") else 0 for n in names])


def scale_expression(exp, mean, spread, change, groups, largest):
    """Make the speakers of a batch livelier or calmer, truth and style code alike.

    exp (B, T, E); mean, spread, change (B, E): the clip's mean, std and std of change. Each group of expressions moves
    away from the clip's mean by a factor between 1 / largest and largest, uniform in its logarithm; spread and change
    grow with it, the mean stays. A corpus of few speakers then shows every amplitude with every sentence, and the
    network learns that amplitude comes from the style and nothing else. Returns exp, spread, change.
    """
    n_groups = int(groups.max()) + 1
    gain = torch.exp((2 * torch.rand(len(exp), n_groups, device=exp.device) - 1) * math.log(largest))[:, groups]
    return mean[:, None] + gain[:, None] * (exp - mean[:, None]), gain * spread, gain * change


def change_loudness(mel, energy, largest_db):
    """Louder or softer by up to `largest_db`: mel (B, A, n) natural log of power, energy (B, A, 1) amplitude."""
    db = (2 * torch.rand(len(mel), 1, 1, device=mel.device) - 1) * largest_db
    return mel + db * DB_TO_LOG_POWER, energy * 10 ** (db / 20)


def other_loudness(features, largest_db):
    """Raw features {stream: (B, A, n)} of which mel and energy, if both are there, are louder or softer by up to `largest_db`."""
    if not largest_db or not {"mel", "energy"} <= set(features):
        return features
    mel, energy = change_loudness(features["mel"], features["energy"], largest_db)
    return features | {"mel": mel, "energy": energy}


def disturb_sound(features, how):
    """z-scored features {stream: (B, A, n)} as another voice, microphone or room might give them.

    how: {field of configs.AugmentConfig: value}; what is left out is off. Energy is never silenced alone: it says when there is speech.
    """
    features = dict(features)
    if "mel" in features:
        mel = colour(shift_bands(features["mel"], how.get("shift_bands", 0)), how.get("colour", 0))
        features["mel"] = mask_bands(mel, how.get("mask_bands", 0))
    if how.get("stream_drop", 0):
        features |= drop_streams({n: x for n, x in features.items() if n != "energy"}, how["stream_drop"])
    noise, share = how.get("feature_noise", 0), how.get("feature_drop", 0)
    return {name: drop_rows(x + noise * torch.randn_like(x), share) for name, x in features.items()}


def colour(x, spread):
    """Another microphone: a smooth curve over the bands, constant in time, added to z-scored x (B, A, n)."""
    n = x.shape[-1]
    band = torch.linspace(0, math.pi, n, device=x.device)
    waves = torch.cos(band * torch.arange(4, device=x.device)[:, None])
    return x + spread * torch.randn(len(x), 1, 4, device=x.device) @ waves


def shift_bands(x, furthest):
    """Another length of the vocal tract: z-scored x (B, A, n) moved along its bands by up to `furthest`, uniformly, edges repeated.

    On a mel axis the formants of a longer tract lie lower by about the same number of bands everywhere (Jaitly and Hinton, 2013).
    """
    n = x.shape[-1]
    shift = (2 * torch.rand(len(x), 1, device=x.device) - 1) * furthest
    position = (torch.arange(n, device=x.device) + shift).clamp(0, n - 1)
    left = position.floor().long().clamp(max=n - 2)
    part = (position - left)[:, None]
    index = left[:, None].expand(-1, x.shape[1], -1)
    return x.gather(2, index) * (1 - part) + x.gather(2, index + 1) * part


def mask_bands(x, widest):
    """Zero one stretch of up to `widest` neighbouring bands of each clip of z-scored x (B, A, n) (SpecAugment, Park et
    al. 2019).
    """
    n = x.shape[-1]
    width = torch.rand(len(x), 1, device=x.device) * (widest + 1)
    start = torch.rand(len(x), 1, device=x.device) * (n - widest)
    band = torch.arange(n, device=x.device)
    inside = (band >= start) & (band < start + width.floor())
    return x.masked_fill(inside[:, None], 0)


def drop_rows(x, share, longest=8):
    """Zero stretches of rows of x (B, A, n), each 1 to `longest` long, about `share` of all rows."""
    starts = torch.rand(x.shape[:2], device=x.device) < share / ((longest + 1) / 2)
    length = torch.randint(1, longest + 1, x.shape[:2], device=x.device)
    left = torch.where(starts, length, 0)
    dropped = torch.zeros_like(starts)
    for back in range(longest):
        dropped[:, back:] |= left[:, : left.shape[1] - back] > back
    return x.masked_fill(dropped[..., None], 0)


def drop_streams(streams, share):
    """Silence, for each clip, each of the named streams (B, A, n) with probability `share`, but never all of them."""
    names = list(streams)
    size = len(streams[names[0]])
    keep = torch.rand(size, len(names)) >= share
    keep[torch.arange(size), torch.randint(len(names), (size,))] = True
    return {name: x * keep[:, i, None, None].to(x) for i, (name, x) in enumerate(streams.items())}


def random_person(n, n_motion, gain, device):
    """Gains and shifts (n, 1, K) that turn a person into another: all coefficients by up to `gain`, each by some of its own."""
    shared = (2 * torch.rand(n, 1, 1, device=device) - 1) * math.log(gain)
    own = 0.5 * math.log(gain) * torch.randn(n, 1, n_motion, device=device).clamp(-2, 2)
    return (shared + own).exp(), 0.4 * torch.randn(n, 1, n_motion, device=device).clamp(-2, 2)
