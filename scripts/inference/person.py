"""A person drawn by the renderer that was trained on their clip, in the clip's own frames.

Every new frame has a source: a frame of the clip, or two that go over into each other. It is moved to the new pose, the renderer's
network draws the face, and the crop is laid back into the whole source frame. Three threads work on it: sources and composites; the
network; and whoever reads the pictures, in whose thread they are laid back.
"""

import copy
from dataclasses import replace

import cv2
import numpy as np
import torch

from data_process.pictures import head_square
from models import background, headpose_track, paste_back, sources
from models.neural_texture import enlarged
from scripts.inference.crop import PersonCrop
from scripts.inference.encode import AHEAD, beside
from scripts.inference.networks import drawing, generator_on

BACKGROUNDS = ("hold", *background.MODES)
MOST_DETAIL, DETAIL_FROM = (
    3,
    1.3,
)  # times the network's size at most; pixels of the frame for one of the crop from which it is worth it


class PersonDrawer:
    """Draws one person. renderer: a trained `NeuralTexture`, or another with `generator` and `inputs`.

    mode: how `plan` chooses sources for a whole motion: hold (`models.sources`: as long as they fit) or a mode of `background.assign`.
    Without a plan, as in a stream, whose end is not known, all frames come from the one source nearest to the usual pose.
    detail: whole frames get the source's own detail where they are finer than the crop. n_ahead: frames that may wait between two
    threads; 0: all in one.
    """

    group = 1

    def __init__(self, person, renderer, views, backend="torch", mode="hold", detail=True, n_ahead=AHEAD, device="cpu"):
        self.person, self.views, self.mode = person, tuple(views), mode
        self.n_ahead, self.device, self.size = n_ahead, torch.device(device), renderer.stats["size"]
        first, end = person.learning
        track = person.track.select(slice(first, end))
        square = head_square(track, person.model, renderer.stats["heads"])
        angle, trans, still = headpose_track.still_pose(track)
        self.pose, self.learnt = np.concatenate([angle, trans], 1), np.flatnonzero(track.valid)
        self.home = self.pose[self.learnt].mean(0)
        self.crop = PersonCrop(person, track, first, square, still, self.size)
        times = int(np.clip(np.ceil(square[2] / self.size), 1, MOST_DETAIL))
        wanted = detail and "_full" in self.views and square[2] > DETAIL_FROM * self.size
        self.fine = PersonCrop(person, track, first, square, still, times * self.size) if wanted else None
        self.renderer = self._ready(renderer)
        self.generator = generator_on(self.renderer.generator, self._examples(), backend, self.device)
        self._begin()

    def _ready(self, renderer):
        """The renderer of this person alone, on the device."""
        if hasattr(renderer, "personal") and renderer.stats["n_people"] > 1:
            renderer = renderer.personal(self.person.texture)
        renderer.to(self.device)
        if hasattr(renderer, "meet"):  # it takes people it was not trained on
            renderer.meet(self.crop.compositor)
        return renderer

    def _examples(self):
        """Tensors that the generator is called with."""
        if hasattr(self.renderer, "examples"):
            return tuple(x.to(self.device) for x in self.renderer.examples(self.size))
        n_half = self.renderer.generator.stem.in_channels - 4 * self.renderer.generator.FULL
        full, half = self.size, self.size // 2
        shapes = (1, self.renderer.generator.FULL, full, full), (1, n_half, half, half)
        return tuple(torch.zeros(shape, device=self.device) for shape in shapes)

    def _begin(self):
        self.chosen, self.n_drawn, self.before = None, 0, None

    def again(self, n_ahead=None):
        """A drawer of another video of the same person; shares what does not change."""
        other = copy.copy(self)
        other._begin()
        other.n_ahead = self.n_ahead if n_ahead is None else n_ahead
        other.crop, other.fine = copy.copy(self.crop), copy.copy(self.fine)
        for crop in (other.crop, other.fine):
            if crop is not None:
                crop.forget()
        return other

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
        for source, picture, fine in beside(self._pictures(composites), self.n_ahead):
            yield tuple(self._full(source, fine) if view == "_full" else picture for view in self.views)

    def _composites(self, motion, chosen):
        """(source, Composite, the finer one or None) of each frame."""
        pose = self._new_pose(motion).astype(np.float32)
        with drawing():
            for t, source in enumerate(chosen):
                state = motion["exp"][t], pose[t, :3], pose[t, 3:]
                composite, fine = self.crop.composite(source, *state), None
                if self.fine is not None:  # of which the background alone is needed: many may wait
                    fine = self.fine.composite(source, *state)
                    fine = replace(fine, **dict.fromkeys(("mesh", "mask", "uv", "normals", "mouth")))
                yield source, composite, fine

    def _pictures(self, composites):
        """(source, picture (S, S, 3) uint8, the same as fine as it is laid back) of each frame."""
        with drawing():
            for source, composite, fine in composites:
                composite = composite.to(self.device)
                before = composite.background if self.before is None else self.before
                self.before = composite.background
                made, _ = self.generator(*self.renderer.inputs(composite, before))
                picture = detailed = to_picture(made)
                if fine is not None:
                    fine = replace(fine, background=fine.background.to(self.device))
                    detailed = to_picture(enlarged(made.to(self.device), composite, fine))
                yield source, picture, detailed

    def _full(self, source, picture):
        """The whole source frame with the crop laid in."""
        first, second, share = source
        (frame,) = self.person.frames([self.crop.first + first])
        if second is not None:
            (other,) = self.person.frames([self.crop.first + second])
            frame = cv2.addWeighted(frame, 1 - share, other, share, 0)
        crop = self.fine or self.crop
        return paste_back.paste(frame, picture, crop.to_crop, crop.rim)


def to_picture(made):
    """(1, 3, S, S) in [0, 1] -> (S, S, 3) uint8."""
    return (made[0].permute(1, 2, 0) * 255).round().clamp(0, 255).to(torch.uint8).contiguous().cpu().numpy()
