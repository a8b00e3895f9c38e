"""Motion of a sound that arrives in pieces: the numbers of `method.generate`, as soon as they are certain.

    amplitude = method.amplitude(method.raw_motion(other_rows, style), style)      # of any speech: a stream cannot look ahead
    stream = MotionStream(method, style, amplitude)
    for rows in pieces:                                 # {feature: (n, C)} at 50 Hz, n even or odd
        motion = stream.push(rows)                      # {"exp" (T, E), "angle" (T, 3), "trans" (T, 3)}, T may be 0
    motion = stream.close()                             # the rest

All of it together equals `method.generate(rows, style, chunk=stream.chunk, amplitude=amplitude)` to the last bit, whatever the pieces.
A frame is certain when its chunk, what the network hears after it and what the smoothing of the head looks at have been heard:
`latency_frames` after its own sound, at most.
"""

import numpy as np
import torch

from deep_3drecon.track import FPS
from models.blinks import generate_blinks
from models.windows import ROWS_PER_FRAME

CHUNK = 8  # frames that the network makes at a time


class StreamError(ValueError):
    """A method that cannot work on a stream, or a stream that has ended."""


class MotionStream:
    """One sound. seed, blinks: as in `generate`. head: False leaves out the head's motion, and the wait for it."""

    def __init__(self, method, style, amplitude, seed=0, blinks=True, head=True, chunk=CHUNK):
        if method.window_frames is not None:
            raise StreamError("a method of fixed windows cannot work on a stream: use one of preset tiny")
        self.method, self.style, self.amplitude, self.chunk = method, style, amplitude, chunk
        self.seed, self.blinks, self.head, self.closed = seed, blinks, head, False
        self.context = method.context_frames
        self.reach = amplitude.pose_reach if head else 0
        self.parts = method.style_tensors(style)
        self.rows = {}  # {stream: (n, C)} from row `first_row` on
        self.first_row, self.n_rows, self.n_made, self.n_given = 0, 0, 0, 0
        self.exp, self.pose = None, None  # raw; exp from frame n_given on, pose from frame pose_start on
        self.pose_start = 0
        self.closure = np.zeros(0, np.float32)

    @property
    def latency_frames(self):
        """Frames of sound after a frame's own that must have been heard before it is given, at most."""
        return self.chunk - 1 + self.context + self.reach

    def push(self, rows):
        """Take feature rows {name: (n, C)}; give the motion that became certain."""
        if self.closed:
            raise StreamError("push after close: make a new stream for a new sound")
        self._take(rows)
        while self.n_rows >= ROWS_PER_FRAME * (self.n_made + self.chunk + self.context):
            self._make(self.chunk, None)
        return self._give(max(self.n_given, self.n_made - self.reach))

    def close(self):
        """End of the sound: give what is left."""
        if self.closed:
            raise StreamError("close was called twice")
        self.closed = True
        n_frames = self.n_rows // ROWS_PER_FRAME
        while self.n_made < n_frames:
            self._make(min(self.chunk, n_frames - self.n_made), n_frames)
        return self._give(n_frames)

    def _take(self, rows):
        for name in self.method.streams:
            new = torch.as_tensor(np.asarray(rows[name]), dtype=torch.float32, device=self.method.exp_std.device)
            self.rows[name] = torch.cat([self.rows[name], new]) if name in self.rows else new
        self.n_rows += len(rows[self.method.streams[0]])

    @torch.no_grad()
    def _make(self, n, n_frames):
        """Raw motion of the next n frames; n_frames: length of the sound where it is known."""
        last = self.n_rows if n_frames is None else ROWS_PER_FRAME * n_frames
        first, end = self.n_made - self.context, self.n_made + n + self.context
        index = torch.arange(ROWS_PER_FRAME * first, ROWS_PER_FRAME * end).clamp(0, last - 1) - self.first_row
        piece = {name: x[index][None] for name, x in self.rows.items()}
        raw = self.method(self.method.normalised(piece), self.parts)
        raw = {name: x[0].cpu().numpy() for name, x in raw.items()}
        self.exp = raw["exp"] if self.exp is None else np.concatenate([self.exp, raw["exp"]])
        if "pose" in raw and self.head:
            self.pose = raw["pose"] if self.pose is None else np.concatenate([self.pose, raw["pose"]])
        self.n_made += n
        keep = max(0, ROWS_PER_FRAME * (self.n_made - self.context))  # what the next chunk hears first
        self.rows = {name: x[keep - self.first_row :] for name, x in self.rows.items()}
        self.first_row = keep

    def _give(self, end):
        """Motion of the frames from n_given to `end`; forgets what is needed no more."""
        n, start = end - self.n_given, self.n_given
        if self.exp is None:  # nothing was heard
            width = len(self.amplitude.exp_mean)
            return {"exp": np.zeros((0, width), np.float32)} | {
                k: np.zeros((0, 3), np.float32) for k in ("angle", "trans")
            }
        exp, self.exp = self.amplitude.expression(self.exp[:n]), self.exp[n:]
        pose = None
        if self.pose is not None:
            # the smoothing reaches `reach` frames, so its inner part does not notice where the stretch was cut
            smooth = self.amplitude.smooth(self.pose)[start - self.pose_start :][:n] if n else self.pose[:0]
            pose = self.amplitude.scaled(smooth)
            keep = max(0, end - self.reach)
            self.pose, self.pose_start = self.pose[keep - self.pose_start :], keep
        self.n_given = end
        return self.method.finish(exp, pose, self._closure(start, end) if self.blinks else None)

    def _closure(self, start, end):
        """Lid closure of frames start to end; longer clips begin with the blinks of shorter ones."""
        if len(self.closure) < end:
            self.closure = generate_blinks(max(2 * end, 60 * FPS), FPS, self.style.blinks, self.seed)
        return self.closure[start:end]
