"""A network that sees a fitted clip and says what the fit got wrong: mouth, pose of the head, identity.

Landmarks are found a pixel or two beside their places, always to the same side for one face, and the lips' corners and edges say
little about what the mouth does. The network sees mouth and face turned to the front (`clip_views`) beside their mean over the
clip, so that it knows how a person looks when at rest. Learnt from made people only, see `scripts/train_regressor.py`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from deep_3drecon import camera, clip_views, fit, landmarks
from deep_3drecon.align import whittaker
from deep_3drecon.clip_mirror import Mirror
from deep_3drecon.clip_views import POINTS, Viewer, corrected, logarithms
from deep_3drecon.coeffs import OPEN_LAYOUT
from deep_3drecon.photometric import with_parts
from deep_3drecon.photometric_frames import chosen
from deep_3drecon.regressor_files import read_network, write_network

FORMAT = "idiolect-clip-regressor-2"
RELEASED = Path(__file__).parents[1] / "data" / "checkpoints" / "clip_regressor"
NAME = "clip_regressor"
N_CONTEXT = 64  # frames by which the network gets to know a person
CHUNK = 32
LIDS = np.concatenate([landmarks.EYE_LEFT, landmarks.EYE_RIGHT])
KEPT = 0.02  # deviation that the fit's landmarks may ask of a corrected expression

MOUTH_PLACES, FACE_PLACES, PLACE_SCALE = 64, 32, 20.0
LEAST_CONTRAST = 0.02  # of a logarithm
N_LAST = 16  # channels that convolutions end with
N_MISSES = 2 * len(clip_views.POINTS)
N_NUMBERS = 2 * OPEN_LAYOUT.exp + 3 + N_MISSES + OPEN_LAYOUT.id


class Sight(nn.Module):
    """Pictures (B, 2 N_CHANNELS, h, w) -> places (B, 2 n_places) where something is seen, -1 to 1, and features (B, n_features).

    size: rows and columns h, w. finer: so many pixels by so many are one to the convolutions, with as many channels.
    A place is the mean of a softmax over the picture (Levine et al., JMLR 2016), finer than the grid that it is computed on.
    """

    def __init__(self, size, width, n_places, n_features, finer=1):
        super().__init__()
        rows, columns = (side // finer for side in size)

        def layer(n_in, n_out, stride=1, dilation=1):
            convolution = nn.Conv2d(n_in, n_out, 3, stride, dilation, dilation, bias=False)
            return nn.Sequential(convolution, nn.BatchNorm2d(n_out), nn.ReLU())

        w, n_in = width, 2 * clip_views.N_CHANNELS * finer**2
        self.gather = nn.PixelUnshuffle(finer)
        self.start = nn.Sequential(layer(n_in, w * finer, 2), layer(w * finer, 2 * w, 2), layer(2 * w, 2 * w))
        self.near = nn.Sequential(layer(2 * w, 2 * w, 1, 2), layer(2 * w, 2 * w))
        self.maps = nn.Conv2d(2 * w, n_places, 1)
        self.far = nn.Sequential(layer(2 * w, 2 * w, 2), nn.Conv2d(2 * w, N_LAST, 1), nn.ReLU(), nn.Flatten())
        flat = N_LAST * -(-rows // 8) * -(-columns // 8)
        self.features = nn.Sequential(nn.Linear(flat, n_features), nn.ReLU())
        grid = [torch.linspace(-1, 1, -(-side // 4)) for side in (columns, rows)]
        across, down = torch.meshgrid(*grid, indexing="xy")
        self.register_buffer("grid", torch.stack([across.flatten(), down.flatten()], 1), persistent=False)

    def forward(self, pictures):
        seen = self.start(self.gather(pictures))
        seen = seen + self.near(seen)
        share = self.maps(seen).float().flatten(2).softmax(-1)
        return (share @ self.grid).flatten(1), self.features(self.far(seen))


class ClipNetwork(nn.Module):
    """Two stacks of convolutions and a few linear layers. What is usual in the numbers and the corrections is part of the weights.

    n_exp: number of expressions corrected.
    """

    def __init__(self, n_exp, width=24, hidden=256):
        super().__init__()
        self.settings = {"n_exp": n_exp, "width": width, "hidden": hidden}
        half, n_places = hidden // 2, 2 * (MOUTH_PLACES + FACE_PLACES)
        self.mouth = Sight(clip_views.MOUTH_SIZE, width, MOUTH_PLACES, half, clip_views.FINER)
        self.face = Sight(clip_views.FACE_SIZE, width * 2 // 3, FACE_PLACES, half)
        self.read = nn.Sequential(nn.Linear(N_NUMBERS, half), nn.ReLU())
        self.frame = nn.Sequential(nn.Linear(3 * half + n_places, hidden), nn.ReLU())
        self.whole = nn.Linear(hidden, half)
        self.decide = nn.Sequential(nn.Linear(hidden + 2 * half + n_places, hidden), nn.ReLU())
        self.out = nn.Linear(hidden, n_exp + 3)
        self.straight = nn.Linear(N_NUMBERS + n_places, n_exp + 3, bias=False)
        self.out_points = nn.Linear(hidden, N_MISSES)
        self.straight_points = nn.Linear(N_NUMBERS + n_places, N_MISSES, bias=False)
        self.who = nn.Sequential(nn.Linear(2 * half, half), nn.ReLU())
        self.out_id = nn.Linear(half, OPEN_LAYOUT.id)
        self.straight_id = nn.Linear(2 * N_NUMBERS, OPEN_LAYOUT.id, bias=False)
        for layer in (self.out, self.straight, self.out_points, self.straight_points, self.out_id, self.straight_id):
            for values in layer.parameters():
                nn.init.zeros_(values)
        self.register_buffer("usual", torch.zeros(N_NUMBERS))
        self.register_buffer("spread", torch.ones(N_NUMBERS))
        self.register_buffer("step", torch.ones(n_exp + 3))  # what one unit of the output is worth
        self.register_buffer("step_id", torch.ones(OPEN_LAYOUT.id))
        self.half = False  # convolutions in bfloat16: good enough to learn

    def forward(self, mouth, face, numbers):
        """C clips of K frames: mouth (C, K, 2, h, w), face (C, K, 2, h, w), numbers (C, K, N_NUMBERS)
        -> corrections exp (C, K, n_exp), angle (C, K, 3) radians, id (C, 80); points (C, K, len(POINTS), 2): true misses."""
        seen = self.frames(mouth, face, numbers, usual_look(mouth), usual_look(face))
        person = self.person(*seen)
        return self.correct(*seen, person) | {"id": self.identify(person)}

    def frames(self, mouth, face, numbers, usual_mouth, usual_face):
        """What is seen in each frame (C, K, hidden), where (C, K, n_places), and the numbers in their own spread."""
        read = ((numbers - self.usual) / self.spread).clamp(-5, 5)
        with torch.autocast(numbers.device.type, torch.bfloat16, enabled=self.half):
            mouth_at, mouth_seen = self.mouth(_beside(mouth, usual_mouth))
            face_at, face_seen = self.face(_beside(face, usual_face))
            at = torch.cat([mouth_at, face_at], -1)
            frame = self.frame(torch.cat([mouth_seen, face_seen, self.read(read.flatten(0, 1)), at], -1))
        shape = numbers.shape[:2]
        return frame.float().unflatten(0, shape), at.unflatten(0, shape), read

    def person(self, frame, at, read):
        """What the frames of each clip have in common: three tensors (C, n)."""
        return _mean_and_spread(self.whole(frame)), at.mean(1), _mean_and_spread(read)

    def correct(self, frame, at, read, person):
        """Corrections of frames, some or all, of the person's: exp (C, K, n_exp), angle (C, K, 3), points."""
        beside = person[0][:, None].expand(-1, frame.shape[1], -1)
        moved = PLACE_SCALE * (at - person[1][:, None])
        decided, plain = self.decide(torch.cat([frame, moved, beside], -1)), torch.cat([read, moved], -1)
        out = (self.out(decided) + self.straight(plain)) * self.step
        points = (self.out_points(decided) + self.straight_points(plain)).unflatten(-1, (-1, 2))
        return {"exp": out[..., :-3], "angle": out[..., -3:], "points": points}

    def identify(self, person):
        """Corrections of the identity (C, 80)."""
        return (self.out_id(self.who(person[0])) + self.straight_id(person[2])) * self.step_id


def _mean_and_spread(values):
    """(C, K, n) -> (C, 2 n)."""
    return torch.cat([values.mean(1), (values.var(1, correction=0) + 1e-4).sqrt()], -1)


def usual_look(views):
    """(C, K, 2, h, w) -> mean colour and contrast (C, 1, 2, 1, 1) of each clip, and its mean view (C, 1, 2, h, w)."""
    contrast = views.var((1, 3, 4), keepdim=True, correction=0).sqrt() + LEAST_CONTRAST
    return views.mean((1, 3, 4), keepdim=True), contrast, views.mean(1, keepdim=True)


def _beside(views, usual):
    """(C, K, 2, h, w) -> (C K, 4, h, w): in the clip's contrast, each frame, and what it is more than the mean view."""
    middle, contrast, mean = usual
    both = torch.cat([views - middle, views - mean], 2) / contrast[:, :, [0, 1, 0, 1]]
    return both.clamp(-4, 4).flatten(0, 1).contiguous(memory_format=torch.channels_last)


@dataclass
class Correction:
    """What the network makes of a clip of T frames: exp (T, 52), angle (T, 3), id (80,) float32; places (T, len(POINTS), 2) of the
    landmarks `clip_views.POINTS` in pixels of the canonical crop, without bias."""

    exp: np.ndarray
    angle: np.ndarray
    id: np.ndarray
    places: np.ndarray

    def select(self, frames):
        """The same at some frames only."""
        return Correction(self.exp[frames], self.angle[frames], self.id, self.places[frames])

    def landmarks(self, found):
        """Found landmarks (T, 478, 2), px of the canonical crop without bias, as a tensor; those that the network places, in its places.

        Lids are left where they were found: the network has not learnt what moves them.
        """
        found, known = torch.as_tensor(found).clone(), ~np.isin(POINTS, LIDS)
        found[:, POINTS[known]] = torch.from_numpy(self.places[:, known]).to(found)
        return found


class ClipRegressor:
    """The network with what is known of its making (`facts`). Keeps no state between calls."""

    def __init__(self, network, facts=None):
        self.network = network.eval()
        self.facts = facts or {}

    @classmethod
    def load(cls, path=None):
        """The regressor in a folder with clip_regressor.safetensors and .json; without a path the released one."""
        return cls(*read_network(path or RELEASED, NAME, FORMAT, ClipNetwork))

    def save(self, path, **facts):
        """Write the two files into a folder (`regressor_files.write_network`); facts go into the JSON."""
        self.facts = write_network(self.network, self.facts | facts, path, NAME, FORMAT)

    @torch.no_grad()
    def correct(self, track, frames, model, bias=None):
        """`Correction` of a track of the open head by its frames.

        frames: see `photometric_frames`; they are read twice. bias: as in `fit.fit_clip`. Nothing is smoothed. The clip is looked
        at twice, as it is and mirrored, which errs less than one look.
        """
        viewer, mirror, parts = Viewer(model, bias), Mirror(model), track.parts()
        sheets = viewer.sheets_of(track)

        def see(at, cut):
            some = track.select(at)
            views = [torch.from_numpy(logarithms(p)).movedim(-1, -3)[None] for p in viewer.look(sheets, some, *cut)]
            return mirror.beside(*views, torch.from_numpy(viewer.numbers(some))[None])

        keys = np.flatnonzero(track.valid)
        keys = keys[np.unique(np.linspace(0, len(keys) - 1, min(len(keys), N_CONTEXT)).round().astype(int))]
        mouth, face, numbers = see(keys, _stacked([pair for _, pair in _cuts(track, frames, keys)]))
        usual = usual_look(mouth), usual_look(face)
        person = self.network.person(*self.network.frames(mouth, face, numbers, *usual))
        id = parts["id"][keys[0]] + mirror.mean({"id": self.network.identify(person)})["id"][0].numpy()
        exp, angle, moved = parts["exp"].copy(), parts["angle"].copy(), corrected(model.expression_names)
        places = np.empty((len(track), len(POINTS), 2))
        for at, cut in _chunks(_cuts(track, frames), len(track)):
            out = mirror.mean(self.network.correct(*self.network.frames(*see(at, cut), *usual), person))
            exp[at[:, None], moved] += out["exp"][0].numpy()
            angle[at] += out["angle"][0].numpy()
            places[at] = viewer.places(track.select(at), out["points"][0])
        return Correction(exp.clip(0, 1), angle, id, places)


def _cuts(track, frames, wanted=None):
    """(t, `clip_views.cut`) of the wanted frames."""
    return ((t, clip_views.cut(frame, track.crop[t])) for t, frame in chosen(track, frames, wanted))


def _stacked(cuts):
    return tuple(np.stack(pictures) for pictures in zip(*cuts, strict=True))


def _chunks(numbered, n):
    """(t, pictures) one by one -> (t (K,), pictures of each kind, (K, ...)) of at most CHUNK."""
    at, cuts = [], []
    for t, pictures in numbered:
        at.append(t), cuts.append(pictures)
        if len(at) == CHUNK or t == n - 1:
            yield np.array(at), _stacked(cuts)
            at, cuts = [], []


def refit(track, correction, model, bias=None, noise=None):
    """The track corrected, places and the other expressions fitted to its landmarks again."""
    linear, prior = fit.linear_landmarks(model, noise), fit.expression_prior(model, track.scores)
    moved = corrected(model.expression_names)
    exp, id = (torch.as_tensor(np.asarray(x, np.float64)) for x in (correction.exp, correction.id))
    angle = torch.from_numpy(whittaker(correction.angle, fit.POSE_CUTOFF_HZ, track.fps))
    prior["mean"][:, moved] = exp[:, moved]
    prior["precision"][moved] = KEPT**-2
    found = correction.landmarks(unbiased(track, bias, angle))
    mask = torch.ones(found.shape[:2], dtype=torch.float64)
    trans = torch.from_numpy(track.parts()["trans"].astype(np.float64))
    trans = fit.solve_place(linear, id, (exp, angle, trans), found, mask)
    trans = torch.from_numpy(whittaker(trans.numpy(), fit.POSE_CUTOFF_HZ, track.fps))
    exp, angle, trans = fit.solve_frames(linear, id, (exp, angle, trans), found, mask, prior, 3, pose_fixed=True)
    exp = torch.from_numpy(whittaker(exp.numpy(), fit.EXPRESSION_CUTOFF_HZ, track.fps)).clamp(0, 1)
    return with_parts(track, model, id=id.expand(len(track), -1), exp=exp, angle=angle, trans=trans)


def unbiased(track, bias=None, angle=None):
    """Landmarks of a track (T, 478, 2) in pixels of the canonical crop without their bias under its own or another angle (T, 3)."""
    found = camera.apply_affine(torch.from_numpy(track.landmarks).double(), torch.from_numpy(track.crop).double())
    if bias is None:
        return found
    return found - bias(torch.from_numpy(track.parts()["angle"].astype(np.float64)) if angle is None else angle)
