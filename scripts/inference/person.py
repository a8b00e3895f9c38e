"""A person drawn by the renderer that was trained on their clip, in the clip's own frames.

Every new frame has a source: a frame of the clip, or two that go over into each other. It is moved to the new pose, the renderer's
network draws the face, and the crop is laid back into the whole source frame. Three threads work on it: sources and composites; the
network; and whoever reads the pictures, in whose thread they are laid back.
"""

import copy
from collections import OrderedDict

import cv2
import numpy as np
import torch

from data_process.pictures import crop_state, cut_square, head_square, square_affine
from deep_3drecon import camera
from models import background, headpose_track, paste_back, sources
from models.composite import Compositor
from scripts.inference.encode import AHEAD, beside
from scripts.inference.networks import drawing, generator_on

SOURCES_KEPT = 256  # about 1 MB each at 256 px
STATE = ("id", "exp", "angle", "trans", "affine")
BACKGROUNDS = ("hold", *background.MODES)


class PersonDrawer:
    """Draws one person. renderer: a trained `NeuralTexture` of this person.

    mode: how `plan` chooses sources for a whole motion: hold (`models.sources`: as long as they fit) or a mode of `background.assign`.
    Without a plan, as in a stream, whose end is not known, all frames come from the one source nearest to the usual pose.
    n_ahead: frames that may wait between two threads; 0: all in one.
    """

    group = 1

    def __init__(
        self, person, renderer, views, backend="torch", mode="hold", poisson=False, n_ahead=AHEAD, device="cpu"
    ):
        self.n_ahead, self.device = n_ahead, torch.device(device)
        self.person, self.renderer, self.views, self.mode, self.poisson = person, renderer, tuple(views), mode, poisson
        self.size, self.model = renderer.stats["size"], person.model
        first, end = person.learning
        track = person.track.select(slice(first, end))
        self.first, self.square = first, head_square(track, self.model, renderer.stats["heads"])
        self.state = crop_state(track, self.square, self.size)
        self.compositor = Compositor(self.model, person.texture, self.size)
        self.to_crop = square_affine(self.square, self.size)
        angle, trans, one = headpose_track.still_pose(track)
        self.pose = np.concatenate([angle, trans], 1)
        self.learnt = np.flatnonzero(track.valid)
        self.home = self.pose[self.learnt].mean(0)
        self.affine = (to_3x3(self.to_crop) @ to_3x3(camera.invert_affine(torch.from_numpy(one)).numpy()))[:2]
        self.id = np.median(self.state["id"][track.valid], 0).astype(np.float32)
        self.renderer.to(self.device)
        if hasattr(renderer, "meet"):  # it takes people it was not trained on
            renderer.meet(self.compositor)
        self.generator = generator_on(renderer.generator, self._examples(), backend, self.device)
        self.rim = paste_back.feather(self.size)
        self._begin()

    def _begin(self):
        self._sources, self.chosen, self.n_drawn, self.before = OrderedDict(), None, 0, None

    def again(self, n_ahead=None):
        """A drawer of another video of the same person; shares what does not change."""
        other = copy.copy(self)
        other._begin()
        other.n_ahead = self.n_ahead if n_ahead is None else n_ahead
        return other

    def _examples(self):
        """Tensors that the generator is called with."""
        if hasattr(self.renderer, "examples"):
            return tuple(x.to(self.device) for x in self.renderer.examples(self.size))
        n_half = self.renderer.generator.stem.in_channels - 4 * self.renderer.generator.FULL
        full, half = self.size, self.size // 2
        shapes = (1, self.renderer.generator.FULL, full, full), (1, n_half, half, half)
        return tuple(torch.zeros(shape, device=self.device) for shape in shapes)

    def rest(self, motion):
        """A person's own motion is taken as it is."""
        return None

    def plan(self, motion):
        """Choose the sources of a whole motion by its poses."""
        pose = self._new_pose(motion)
        if self.mode == "hold":
            self.chosen = sources.faded(self.learnt[sources.hold(self.pose[self.learnt], pose)])
        else:
            self.chosen = [(int(k), None, 0.0) for k in background.assign(self.pose, pose, self.mode)]

    def _usual(self):
        """The frame nearest to the usual pose."""
        return int(self.learnt[sources.hold(self.pose[self.learnt], self.home[None])[0]])

    def _new_pose(self, motion):
        return self.home + np.concatenate([motion["angle"], motion["trans"]], 1)

    def draw(self, motion, rest=None):
        n = len(motion["exp"])
        chosen = self.chosen[self.n_drawn : self.n_drawn + n] if self.chosen else [(self._usual(), None, 0.0)] * n
        self.n_drawn += n
        composites = beside(self._composites(motion, chosen), self.n_ahead)
        for source, picture in beside(self._pictures(composites), self.n_ahead):
            yield tuple(self._full(source, picture) if view == "_full" else picture for view in self.views)

    def _composites(self, motion, chosen):
        """((source frame, second, its share), Composite) of each frame."""
        pose = self._new_pose(motion).astype(np.float32)
        with drawing():
            for t, (first, second, share) in enumerate(chosen):
                light = self.state["gamma"]
                gamma = light[first] if second is None else (1 - share) * light[first] + share * light[second]
                state = (self.id, motion["exp"][t], pose[t, :3], pose[t, 3:], gamma, self.affine)
                state = [np.asarray(x, np.float32)[None] for x in state]
                if second is None:
                    composite = self.compositor.make([self._source(first)], *state)
                else:
                    both = [self._source(first)], [self._source(second)]
                    composite = self.compositor.faded(*both, [share], *state)
                yield (first, second, share), composite

    def _pictures(self, composites):
        """(source, picture (S, S, 3) uint8) of each frame."""
        with drawing():
            for source, composite in composites:
                composite = composite.to(self.device)
                before = composite.background if self.before is None else self.before
                self.before = composite.background
                picture, _ = self.generator(*self.renderer.inputs(composite, before))
                picture = (picture[0].permute(1, 2, 0) * 255).round().clamp(0, 255).to(torch.uint8)
                yield source, picture.contiguous().cpu().numpy()

    def _full(self, source, picture):
        """The whole source frame with the crop laid in."""
        first, second, share = source
        (frame,) = self.person.frames([self.first + first])
        if second is not None:
            (other,) = self.person.frames([self.first + second])
            frame = cv2.addWeighted(frame, 1 - share, other, share, 0)
        return paste_back.paste(frame, picture, self.to_crop, self.rim, poisson=self.poisson)

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
