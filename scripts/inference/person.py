"""A person drawn by the renderer that was trained on their clip, in the clip's own frames.

Every new frame has a source: a frame of the clip, chosen by `models.background`. It is moved to the new pose, the renderer's
network draws the face, and the crop is laid back into the whole source frame. Three threads work on it: sources and composites; the
network; and whoever reads the pictures, in whose thread they are laid back.
"""

import copy
from collections import OrderedDict

import numpy as np
import torch

from data_process.pictures import crop_state, cut_square, head_square, square_affine
from deep_3drecon import camera
from models import background, headpose_track, paste_back
from models.composite import Compositor
from scripts.inference.encode import AHEAD, beside
from scripts.inference.networks import drawing, generator_on

SOURCES_KEPT = 256  # about 1 MB each at 256 px
STATE = ("id", "exp", "angle", "trans", "affine")


class PersonDrawer:
    """Draws one person. renderer: a trained `NeuralTexture` of this person; mode: of `background.assign`, for whole motions.

    A stream of motion, whose end is not known, runs through the clip back and forth: `draw` without `plan`. n_ahead: frames that may wait
    between two threads; 0: all in one.
    """

    group = 1

    def __init__(
        self, person, renderer, views, backend="torch", crop_heads=1.5, mode="follow", poisson=False, n_ahead=AHEAD
    ):
        self.n_ahead = n_ahead
        self.person, self.renderer, self.views, self.mode, self.poisson = person, renderer, tuple(views), mode, poisson
        self.size, self.model = renderer.stats["size"], person.model
        first, end = person.learning
        track = person.track.select(slice(first, end))
        heads = renderer.stats.get("crop_heads", crop_heads)
        self.first, self.square = first, head_square(track, self.model, heads)
        self.state = crop_state(track, self.square, self.size)
        self.compositor = Compositor(self.model, person.texture, self.size)
        self.to_crop = square_affine(self.square, self.size)
        angle, trans, one = headpose_track.still_pose(track)
        self.pose = np.concatenate([angle, trans], 1)
        self.home = self.pose[track.valid].mean(0)
        self.affine = (to_3x3(self.to_crop) @ to_3x3(camera.invert_affine(torch.from_numpy(one)).numpy()))[:2]
        self.id = np.median(self.state["id"][track.valid], 0).astype(np.float32)
        self.generator = generator_on(renderer.generator, self._examples(), backend)
        self.rim = paste_back.feather(self.size)
        self._begin()

    def _begin(self):
        self._sources, self.indices, self.n_drawn, self.before = OrderedDict(), None, 0, None

    def again(self, n_ahead=None):
        """A drawer of another video of the same person; shares what does not change."""
        other = copy.copy(self)
        other._begin()
        other.n_ahead = self.n_ahead if n_ahead is None else n_ahead
        return other

    def _examples(self):
        """Tensors that the generator is called with."""
        n_half = self.renderer.generator.stem.in_channels - 4 * self.renderer.generator.FULL
        half = self.size // 2
        return torch.zeros(1, self.renderer.generator.FULL, self.size, self.size), torch.zeros(1, n_half, half, half)

    def rest(self, motion):
        """A person's own motion is taken as it is."""
        return None

    def plan(self, motion):
        """Choose the sources of a whole motion by its poses; without, they run back and forth."""
        self.indices = background.assign(self.pose, self._new_pose(motion), self.mode)

    def _new_pose(self, motion):
        return self.home + np.concatenate([motion["angle"], motion["trans"]], 1)

    def draw(self, motion, rest=None):
        n = len(motion["exp"])
        indices = self.indices
        if indices is None:
            indices = background.ping_pong(len(self.pose), self.n_drawn + n)
        indices = indices[self.n_drawn : self.n_drawn + n]
        self.n_drawn += n
        composites = beside(self._composites(motion, indices), self.n_ahead)
        for index, picture, mask in beside(self._pictures(composites), self.n_ahead):
            yield tuple(self._full(index, picture, mask) if view == "_full" else picture for view in self.views)

    def _composites(self, motion, indices):
        """(source frame, Composite) of each frame."""
        pose = self._new_pose(motion).astype(np.float32)
        with drawing():
            for t, index in enumerate(indices):
                source = self._source(int(index))
                state = (self.id, motion["exp"][t], pose[t, :3], pose[t, 3:], self.state["gamma"][index], self.affine)
                yield int(index), self.compositor.make([source], *(np.asarray(x, np.float32)[None] for x in state))

    def _pictures(self, composites):
        """(source frame, picture (S, S, 3) uint8, mask of what is laid back (S, S)) of each frame."""
        with drawing():
            for index, composite in composites:
                before = composite.background if self.before is None else self.before
                self.before = composite.background
                picture, _ = self.generator(*self.renderer.inputs(composite, before))
                picture = (picture[0].permute(1, 2, 0) * 255).round().clamp(0, 255).to(torch.uint8).contiguous().numpy()
                yield index, picture, self.rim

    def _full(self, index, picture, mask):
        """The whole source frame with the crop laid in."""
        (frame,) = self.person.frames([self.first + index])
        return paste_back.paste(frame, picture, self.to_crop, mask, poisson=self.poisson)

    def _source(self, index):
        if index not in self._sources:
            (frame,) = self.person.frames([self.first + index])
            cut = cut_square(frame, self.square, self.size)
            self._sources[index] = self.compositor.source(cut, *(self.state[name][index] for name in STATE))
            if len(self._sources) > SOURCES_KEPT:
                self._sources.popitem(last=False)
        self._sources.move_to_end(index)
        return self._sources[index]


def to_3x3(affine):
    """(2, 3) -> (3, 3)."""
    return np.concatenate([np.asarray(affine, np.float64), [[0, 0, 1]]])
