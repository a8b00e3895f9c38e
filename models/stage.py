"""Composites of a training batch: a Compositor for each person and the sources last used."""

from collections import OrderedDict

import numpy as np
import torch

from models.composite import Composite, Compositor
from models.stance import TORSO, Torso, head_places

CACHE = 1000  # sources kept ready
STATE, FRAME = ("id", "exp", "angle", "trans", "affine"), ("id", "exp", "angle", "trans", "gamma", "affine")
MASKS = 20  # frames in which it is looked up where the head is


class Stage:
    """people: `data_process.pictures.Footage`s; size: of the crop. Shared by copies of a model, and no part of its state."""

    def __init__(self, people, size):
        self.people = people
        self.compositors = [Compositor(p.model, p.texture, size) for p in people]
        self._sources = OrderedDict()

    def __deepcopy__(self, memo):
        return self

    def measure_places(self, learnt):
        """(`stance.Torso` or None, heads (N, HEAD), torsos (N, TORSO)) of the frames that are learnt from, ids for each person.

        Of one person the torso is measured in all pictures from now on; with several it stays unknown.
        """
        heads = []
        for person, frames, compositor in zip(self.people, learnt, self.compositors, strict=True):
            state = (torch.from_numpy(person.state[name][frames]) for name in ("angle", "trans", "affine"))
            heads.append(head_places(*state, compositor.size))
        if len(self.people) > 1:
            return None, torch.cat(heads), torch.zeros(sum(map(len, heads)), TORSO)
        (person,), (frames,), (compositor,), (places,) = self.people, learnt, self.compositors, heads
        usual = frames[int((places - places.median(0).values).abs().sum(1).argmin())]
        masks = [self._mask(person, t, compositor) for t in frames[:: max(1, len(frames) // MASKS)]]
        torso = compositor.torso = Torso.learn(person.pictures[usual], masks)
        return torso, places, torch.from_numpy(np.stack([torso.shift(person.pictures[t]) for t in frames]))

    def _mask(self, person, t, compositor):
        """(S, S) float32: 1 where the head is drawn in frame t."""
        source = compositor.source(person.pictures[t], *(person.state[name][t] for name in STATE))
        return compositor.make([source], *(person.state[name][[t]] for name in FRAME)).mask[0, 0].numpy()

    def composites(self, batch, corners=None, side=None):
        """`Composite` of all frames of a batch (data_process.pictures.BATCH), (B T, ...); corners, side as in `Compositor.make`, a corner
        for each window."""
        made, n_frames = [], batch["id"].shape[1]
        for b in range(len(batch["person"])):
            compositor, source = self.compositors[int(batch["person"][b])], [self._source(batch, b)] * n_frames
            state = (batch[name][b].cpu() for name in FRAME)
            own, torso = None if corners is None else [corners[b]] * n_frames, None
            if compositor.torso is not None:
                torso = np.stack([compositor.torso.shift(to_array(picture)) for picture in batch["pictures"][b]])
            made.append(compositor.make(source, *state, corners=own, side=side, torso=torso))
        return Composite(*(torch.cat(parts) for parts in zip(*(vars(c).values() for c in made), strict=True)))

    def _source(self, batch, b):
        number = int(batch["source_frame"][b])
        if number not in self._sources:
            state = (batch[f"source_{name}"][b].cpu() for name in STATE)
            compositor = self.compositors[int(batch["person"][b])]
            self._sources[number] = compositor.source(to_array(batch["source"][b]), *state)
            if len(self._sources) > CACHE:
                self._sources.popitem(last=False)
        self._sources.move_to_end(number)
        return self._sources[number]


def to_array(picture):
    """(3, S, S) uint8 tensor -> (S, S, 3)."""
    return np.ascontiguousarray(picture.permute(1, 2, 0).cpu().numpy())
