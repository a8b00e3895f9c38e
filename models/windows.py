"""Long clips through networks that see a short stretch at a time.

Features are at 50 Hz, motion is at 25 fps: frame t meets rows 2t and 2t + 1. Two ways through a clip of T frames:

* `in_chunks` for networks that are convolutional over time. Each chunk brings as much context as an output can see, so
  the pieces equal the whole and memory does not grow with the clip.
* `in_windows` for networks of one fixed length. Overlapping windows are faded into each other, and the weights of
  every frame add up to one; style_avatar's own code averages plainly and counts its last window several times.
"""

import torch

ROWS_PER_FRAME = 2


class WindowError(ValueError):
    """Features that cannot be cut as asked."""


def pad_rows(rows, n_frames, context):
    """Feature rows (A, C) -> (2 (n_frames + 2 context), C): cut to the frames, edges repeated outside of the clip."""
    if len(rows) == 0 or n_frames < 1:
        raise WindowError(
            f"{len(rows)} feature rows for {n_frames} frames came: at least one of each is needed, use longer audio"
        )
    index = torch.arange(-ROWS_PER_FRAME * context, ROWS_PER_FRAME * (n_frames + context), device=rows.device)
    return rows[index.clamp(0, min(len(rows), ROWS_PER_FRAME * n_frames) - 1)]


def in_chunks(network, features, n_frames, context, chunk=500):
    """Run a convolutional network over a clip in pieces of `chunk` frames.

    network: {name: (1, 2 (n + 2 context), C)} -> {name: (1, n, C)}. features: {name: (A, C)}. Returns {name: (T, C)}.
    """
    padded = {name: pad_rows(rows, n_frames, context) for name, rows in features.items()}
    pieces = []
    for start in range(0, n_frames, chunk):
        n = min(chunk, n_frames - start)
        rows = slice(ROWS_PER_FRAME * start, ROWS_PER_FRAME * (start + n + 2 * context))
        pieces.append(network({name: x[rows][None] for name, x in padded.items()}))
    return {name: torch.cat([piece[name][0] for piece in pieces]) for name in pieces[0]}


def window_starts(n_frames, window, stride):
    """First frames of the windows over a clip: every `stride`, the last one flush with the end."""
    last = max(n_frames - window, 0)
    starts = list(range(0, last, stride))
    return starts + [last]


def window_weights(n_frames, window, stride):
    """Starts, and weights (N, window) of the frames in each window: a Hann bell, scaled so that every frame's weights
    sum to 1.

    Weights of frames past the end of a clip shorter than the window are 0.
    """
    starts = window_starts(n_frames, window, stride)
    bell = torch.hann_window(window + 2, periodic=False, dtype=torch.float64)[1:-1]
    frames = torch.tensor(starts)[:, None] + torch.arange(window)
    inside = frames < n_frames
    weights = bell.expand(len(starts), window) * inside
    total = torch.zeros(n_frames, dtype=torch.float64).index_add_(0, frames[inside], weights[inside])
    return starts, weights / total[frames.clamp(max=n_frames - 1)]


def overlap_add(pieces, starts, weights, n_frames):
    """Pieces (N, window, C) at `starts`, weighed and summed -> (T, C)."""
    out = pieces.new_zeros(n_frames, pieces.shape[-1])
    for piece, start, weight in zip(pieces, starts, weights.to(pieces), strict=True):
        n = min(len(piece), n_frames - start)
        out[start : start + n] += weight[:n, None] * piece[:n]
    return out


def in_windows(network, features, n_frames, context, window=32, stride=8, batch=64):
    """Run a network of one fixed length over a clip of any length.

    network: {name: (B, 2 (window + 2 context), C)} -> {name: (B, window, C)}. features: {name: (A, C)}. Returns {name:
    (T, C)}.
    """
    starts, weights = window_weights(n_frames, window, stride)
    padded = {name: pad_rows(rows, max(n_frames, window), context) for name, rows in features.items()}
    pieces = []
    for i in range(0, len(starts), batch):
        cut = [slice(ROWS_PER_FRAME * s, ROWS_PER_FRAME * (s + window + 2 * context)) for s in starts[i : i + batch]]
        pieces.append(network({name: torch.stack([x[rows] for rows in cut]) for name, x in padded.items()}))
    whole = {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
    return {name: overlap_add(x, starts, weights, n_frames) for name, x in whole.items()}


def at_positions(rows, positions):
    """Rows (B, A, K) read off at positions (B, T) by straight lines, ends held -> (B, T, K)."""
    place = positions.to(rows).clamp(0, rows.shape[1] - 1)
    before = place.long().clamp_max(max(rows.shape[1] - 2, 0))
    weight = (place - before)[..., None]
    shape = (*place.shape, rows.shape[2])
    left = rows.gather(1, before[..., None].expand(shape))
    right = rows.gather(1, (before + 1).clamp_max(rows.shape[1] - 1)[..., None].expand(shape))
    return left + weight * (right - left)
