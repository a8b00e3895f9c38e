"""The square about a person's head in the frames of their clip, at one size: its sources, its composites, its way back into the frame."""

from collections import OrderedDict

import numpy as np
import torch

from data_process.pictures import crop_state, cut_square, square_affine
from deep_3drecon import camera
from models import paste_back
from models.composite import Compositor

STATE = ("id", "exp", "angle", "trans", "affine")
SOURCES_KEPT_BYTES = 64 * 2**20
SOURCE_BYTES = 12  # a pixel of the square; picture, canvas and what is kept of the head


class PersonCrop:
    """size: pixels along a side of the square (left, top, side), source pixels. track: of the frames that were learnt from, the first
    of which is frame `first` of the clip; still: the crop (2, 3) of the poses that are drawn; torso: `stance.Torso`, where it is known."""

    def __init__(self, person, track, first, square, still, size, torso=None):
        self.person, self.first, self.square, self.size = person, first, square, size
        self.state = crop_state(track, square, size)
        self.compositor = Compositor(person.model, person.texture, size, torso)
        self.to_crop = square_affine(square, size)
        self.affine = to_3x3(self.to_crop) @ to_3x3(camera.invert_affine(torch.from_numpy(still)).numpy())
        self.affine = self.affine[:2].astype(np.float32)
        self.id = np.median(self.state["id"][track.valid], 0).astype(np.float32)
        self.rim = paste_back.feather(size)
        self.n_kept = max(4, SOURCES_KEPT_BYTES // (SOURCE_BYTES * size**2))
        self._sources = OrderedDict()

    def composite(self, chosen, exp, angle, trans):
        """`Composite` of one frame: chosen (source frame, second or None, its share), coefficients (n,)."""
        first, second, share = chosen
        light = self.state["gamma"]
        gamma = light[first] if second is None else (1 - share) * light[first] + share * light[second]
        state = [np.asarray(x, np.float32)[None] for x in (self.id, exp, angle, trans, gamma, self.affine)]
        if second is None:
            return self.compositor.make([self.source(first)], *state)
        return self.compositor.faded([self.source(first)], [self.source(second)], [share], *state)

    def source(self, index):
        """A frame of the clip as `composite.Source`; those last used are kept."""
        if index not in self._sources:
            (frame,) = self.person.frames([self.first + index])
            cut = cut_square(frame, self.square, self.size)
            self._sources[index] = self.compositor.source(cut, *(self.state[name][index] for name in STATE))
            if len(self._sources) > self.n_kept:
                self._sources.popitem(last=False)
        self._sources.move_to_end(index)
        return self._sources[index]

    def forget(self):
        """A new, empty store of sources, so that two videos can be drawn beside each other."""
        self._sources = OrderedDict()


def to_3x3(affine):
    """(2, 3) -> (3, 3)."""
    return np.concatenate([np.asarray(affine, np.float64), [[0, 0, 1]]])
