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
from models import background, headpose_track, paste_back, retarget, sources
from models.composite import to_picture
from models.memory_gan import Past
from models.neural_texture import enlarged
from models.person import PersonError
from models.stance import N_CONDITIONS
from scripts.inference.crop import PersonCrop
from scripts.inference.encode import AHEAD, beside
from scripts.inference.networks import drawing, generator_on

SHOWN = 0.01, 0.99  # quantiles of the learnt poses' numbers between which a new pose is taken as it is
GIVE = 0.15  # of the span between them: how far beyond a pose may go
BACKGROUNDS = ("hold", *background.MODES)
MOST_DETAIL = 3  # times the network's size that the detail of whole frames has at most
DETAIL_FROM = 1.3  # pixels of the frame for one of the crop, from which detail is worth it


class PersonDrawer:
    """Draws one person. renderer: a trained `NeuralTexture`, or another with `generator` and `inputs`, or with `render` alone, as
    `MemoryGan`, which draws `group` frames at a time and keeps between calls what it must know of those before.

    views: {ending of the video's name: is it the whole frame?}. A person of one frame is a portrait: motion is carried over from rest to
    rest, as the mesh renderer does; others are drawn in a motion of their own.
    mode: how `plan` chooses sources for a whole motion: hold (`models.sources`: as long as they fit) or a mode of `background.assign`.
    Without a plan, as in a stream, whose end is not known, all frames come from the one source nearest to the usual pose.
    detail: whole frames get the source's own detail where they are finer than the crop. n_ahead: frames that may wait between two
    threads; 0: all in one.
    """

    def __init__(self, person, renderer, views, backend="torch", mode="hold", detail=True, n_ahead=AHEAD, device="cpu"):
        self.person, self.views, self.mode = person, dict(views), mode
        self.n_ahead, self.device, self.size = n_ahead, torch.device(device), renderer.stats["size"]
        first, end = person.learning
        track = person.track.select(slice(first, end))
        square = head_square(track, person.model, renderer.stats["heads"])
        angle, trans, still = headpose_track.still_pose(track)
        self.pose, self.learnt = np.concatenate([angle, trans], 1), np.flatnonzero(track.valid)
        self.home = self.pose[self.learnt].mean(0)
        self.bounds = np.quantile(self.pose[self.learnt], SHOWN, axis=0)
        self.candidates = sources.Candidates(track, self.pose, self.learnt, person.model)
        self.crop = PersonCrop(person, track, first, square, still, self.size, torso_of(renderer))
        times = int(np.clip(np.ceil(square[2] / self.size), 1, MOST_DETAIL))
        wanted = detail and any(self.views.values()) and square[2] > DETAIL_FROM * self.size
        self.fine = PersonCrop(person, track, first, square, still, times * self.size) if wanted else None
        self.renderer, self.generator, self.group = self._ready(renderer), None, getattr(renderer, "group", 1)
        if hasattr(renderer, "inputs"):
            self.generator = generator_on(self.renderer.generator, self._examples(), backend, self.device)
        elif backend != "torch":
            raise PersonError(f"{type(renderer).__name__}: runs with --backend torch only")
        self.own_rest = portrait_rest(person) if len(person) == 1 else None
        self._begin()

    def _ready(self, renderer):
        """The renderer of this person alone, on the device."""
        if len(self.person) == 1 and renderer.stats["n_people"] == 1 and not hasattr(renderer, "meet"):
            raise PersonError(
                "the renderer was trained on one person: a portrait needs one of several, see --renderer_dir"
            )
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
        n_half = self.renderer.generator.stem.in_channels - 4 * self.renderer.generator.FULL + 2
        full, half = self.size, self.size // 2
        shapes = (1, self.renderer.generator.FULL, full, full), (1, n_half, half, half), (1, N_CONDITIONS, 1, 1)
        return tuple(torch.zeros(shape, device=self.device) for shape in shapes)

    def _begin(self):
        self.chosen, self.n_drawn, self.before = None, 0, None
        self.past = Past() if self.generator is None else None

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
        """What a motion on a portrait is counted from; a person's own motion is taken as it is."""
        return None if self.own_rest is None else retarget.motion_rest(self.person.model, **motion)

    def plan(self, motion):
        """Choose the sources of a whole motion by its poses."""
        pose = self._new_pose(motion)
        if self.mode == "hold":
            self.chosen = sources.faded(self.candidates.hold(pose))
        else:
            self.chosen = [(int(k), None, 0.0) for k in background.assign(self.pose, pose, self.mode)]

    def _usual(self):
        """The frame nearest to the usual pose."""
        return int(self.candidates.hold(self.home[None])[0])

    def _new_pose(self, motion):
        """(T, 6): of a person, kept near to what the clip shows; hair and neck beyond that would be smeared."""
        pose = self.home + np.concatenate([motion["angle"], motion["trans"]], 1)
        return pose if len(self.person) == 1 else softly_within(pose, *self.bounds)

    def draw(self, motion, rest=None):
        n = len(motion["exp"])
        chosen = self.chosen[self.n_drawn : self.n_drawn + n] if self.chosen else [(self._usual(), None, 0.0)] * n
        self.n_drawn += n
        if self.own_rest is not None:
            exp = retarget.expression(self.person.model, self.own_rest, rest or self.rest(motion), motion["exp"])
            motion = motion | {"exp": exp}
        if self.generator is None:
            pictures = self._rendered(motion, chosen)
        else:
            pictures = self._pictures(beside(self._composites(motion, chosen), self.n_ahead))
        for source, picture, detailed in beside(pictures, self.n_ahead):
            yield tuple(self._full(source, detailed) if whole else picture for whole in self.views.values())

    def _rendered(self, motion, chosen):
        """As `_pictures`, by a renderer that draws several frames at a time."""
        chosen = [(second if share > 0.5 else first, None, 0.0) for first, second, share in chosen]
        pose, crop = self._new_pose(motion).astype(np.float32), self.crop
        gamma = crop.state["gamma"][[first for first, _, _ in chosen]]
        one = [np.broadcast_to(x, (len(chosen), *x.shape)) for x in (crop.id, crop.affine)]
        state = one[0], motion["exp"], pose[:, :3], pose[:, 3:], gamma, one[1]
        frames = (crop.source(first) for first, _, _ in chosen)
        drawn = self.renderer.render(crop.compositor, frames, *(np.ascontiguousarray(x) for x in state), past=self.past)
        for source, (picture, _, _) in zip(chosen, drawn, strict=True):
            yield source, picture, picture

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
                made, _, *flow = self.generator(*self.renderer.inputs(composite, before))
                picture = detailed = to_picture(made[0])
                if fine is not None:
                    fine = replace(fine, background=fine.background.to(self.device))
                    flow = flow[0].to(self.device) if flow else None
                    detailed = to_picture(enlarged(made.to(self.device), composite, fine, flow)[0])
                yield source, picture, detailed

    def _full(self, source, picture):
        """The whole source frame with the crop laid in."""
        first, second, share = source
        (frame,) = self.person.frames([self.crop.first + first])
        if second is not None:
            (other,) = self.person.frames([self.crop.first + second])
            frame = cv2.addWeighted(frame, 1 - share, other, share, 0)
        crop = self.fine if self.fine is not None and len(picture) == self.fine.size else self.crop
        return paste_back.paste(frame, picture, crop.to_crop, crop.rim)


def softly_within(pose, low, high, give=GIVE):
    """Values (T, n) as they are between low and high (n,), and ever less beyond them: never farther than `give` of the span."""
    edge, most = pose.clip(low, high), np.maximum(give * (high - low), 1e-9)
    return edge + most * np.tanh((pose - edge) / most)


def torso_of(renderer):
    """`stance.Torso` that a renderer knows of its person, or None."""
    stance = getattr(renderer, "stance", None)
    return stance and stance.torso()


def portrait_rest(person):
    """`retarget.Rest` of a person of one frame."""
    parts = {name: torch.from_numpy(np.ascontiguousarray(x[0])) for name, x in person.track.parts().items()}
    mean = person.model.vertices(parts["id"], torch.zeros_like(parts["exp"]))
    head = replace(person.model, mean=mean, id_basis=person.model.id_basis[..., :0])
    return retarget.portrait_rest(head, parts["exp"])
