"""neural_texture: a person's frames from a composite, by a texture learnt on the atlas and a strided U-Net.

The renderer of Wu et al. (style_avatar, MM 2021) in another form: the network does not paint a face on black but corrects a
composite (`models.composite`) that is already near, in its scene. It sees the composite, what it was a frame before, normals and a
texture of learnt numbers that lies on the person's own surface. First it moves what lies a little off, collar and wall above all, by a
small flow (`Warper`); then it says for each pixel which colour to add and how much of it counts.

Of one person the texture is learnt as it is. Of several it is what they have in common, what an encoder makes of a person's atlas, and each
one's own; the latter is hidden half of the time, so that the former two do for people who were never seen (`personal`).

Presets:
fast    3.8 GFLOP for a frame of 256 px: real time on two processor cores
tiny    for tests
"""

import torch
import torch.nn.functional as F
from torch import nn

from deep_3drecon.face_model import load_face_model
from models import discriminator as gan
from models.composite import to_picture
from models.neural_texture_flow import flow_losses
from models.neural_texture_networks import (
    Generator,
    TextureEncoder,
    atlas_tensor,
    first_texture,
    place_planes,
    sample_texture,
    warp,
)
from models.perceptual import PerceptualLoss
from models.presets import preset_dims
from models.stage import Stage
from models.stance import Stance

PRESETS = {
    "fast": {
        "width": 24,
        "texture_channels": 16,
        "texture_size": 256,
        "patch": 128,
        "polish_after": 2200,
        "judge_width": 32,
    },
    "tiny": {"width": 8, "texture_channels": 4, "texture_size": 32, "patch": 48, "polish_after": 4, "judge_width": 8},
}
WIDTHS, DEPTHS = (1, 2, 4, 16 / 3), (0, 1, 2, 2)  # of the generator's levels, in units of `width`; blocks
MOUTH_CHANCE, FACE_CHANCE = 0.4, 0.4  # of a training patch to be about the mouth, or about the face; else anywhere
MOUTH_GROWTH = 9  # px by which the mouth mask is widened for its loss
MEASURED = "stance."  # weights that training measures and does not learn
LATER = (MEASURED, "generator.warper.")  # weights that checkpoints made before there was a warp do not have


class NeuralTexture(nn.Module):
    """Renderer of one person or several. settings: preset, dims; stats: `about()` of data_process.pictures.PictureWindows."""

    phases = ("generator", "discriminator")
    data_kind = "pictures"
    not_released = ("discriminator.",)

    def __init__(self, settings, stats, face=None):
        super().__init__()
        dims = preset_dims(PRESETS, settings["preset"], settings["dims"])
        self.settings, self.stats, self.dims = settings, stats, dims
        self.face = face or load_face_model(stats["face_model"])
        n = dims["texture_channels"]
        first, several = first_texture(n, dims["texture_size"])[None], stats["n_people"] > 1
        self.texture = nn.Parameter(first.new_zeros(stats["n_people"], *first.shape[1:]) if several else first)
        self.common = nn.Parameter(first) if several else None
        self.encoder = TextureEncoder(n) if several else None
        widths = tuple(int(dims["width"] * w) for w in WIDTHS)
        self.generator = Generator(n + 6, widths, DEPTHS)
        self.stance = Stance()
        self.discriminator = gan.MultiScaleDiscriminator(7, dims["judge_width"])
        self.stage, self.perceptual, self.atlases, self._made = None, None, None, (None,)

    def attach(self, train_set):
        """What training needs and no checkpoint holds: composites of the set's people, the backbone of the perceptual loss."""
        self.stage = Stage(train_set.people, self.stats["size"])
        self.stance.learn(*self.stage.measure_places(train_set.learnt))
        self.perceptual = Frozen(PerceptualLoss())
        if self.encoder is not None:
            self.atlases = torch.cat([atlas_tensor(p.texture, self.dims["texture_size"]) for p in train_set.people])

    def _load_from_state_dict(self, state, prefix, *args):
        """Older checkpoints are read as ones whose warp is none. In training what was measured on the own film stands."""
        kept = MEASURED if self.stage is not None else ()
        for name, value in self.state_dict(prefix=prefix).items():
            own = name.removeprefix(prefix)
            if (name not in state and own.startswith(LATER)) or own.startswith(kept):
                state[name] = value
        super()._load_from_state_dict(state, prefix, *args)

    def parameters_of(self, phase):
        judges = phase == "discriminator"
        return [p for name, p in self.named_parameters() if name.startswith("discriminator.") == judges]

    def personal(self, texture, person=None):
        """A model of one person alone, from one of several: an `atlas.PersonTexture`, and the person's number if it was trained on."""
        one = NeuralTexture(self.settings, self.stats | {"n_people": 1}, self.face)
        one.generator.load_state_dict(self.generator.state_dict())
        one.stance.load_state_dict(self.stance.state_dict())
        atlas = atlas_tensor(texture, self.dims["texture_size"]).to(self.texture.device)
        with torch.no_grad():
            own = 0.0 if person is None else self.texture[person : person + 1]
            one.texture.copy_(self.common + self.encoder(atlas) + own)
        return one.to(self.texture.device).eval()

    def textures(self, person):
        """Neural texture of each frame (B, n, A, A), or one for all; person (B,)."""
        if self.encoder is None:
            return self.texture
        ids, place = torch.unique(person, return_inverse=True)
        own = self.texture[ids]
        if self.training:
            own = own * (torch.rand(len(ids), 1, 1, 1, device=own.device) < 0.5)
        return (self.common + self.encoder(self.atlases.to(own.device)[ids]) + own)[place]

    def inputs(self, composite, before, person=None, place=None):
        """What the generator takes: full (B, 8, S, S), half (B, n + 2, S/2, S/2), conditions. before (B, 3, S, S): background of the frame
        before; place (B, 2, S/2, S/2): by default that of whole crops."""
        full = torch.cat([composite.background, composite.mesh, composite.mask, composite.mouth], 1)
        mask = composite.mask[:, :, ::2, ::2]
        found = sample_texture(self.textures(person), composite.uv[:, ::2, ::2], mask)
        before = F.avg_pool2d(before - composite.background, 2)
        if place is None:
            place = place_planes(full.shape[-1]).to(full.device).expand(len(full), -1, -1, -1)
        half = torch.cat([found, composite.normals[:, :, ::2, ::2], before, place], 1)
        return full, half, self.stance(composite.places)

    def forward(self, composite, before, person=None, place=None):
        """Pictures (B, 3, S, S) in [0, 1], how much of them is new (B, 1, S, S), and the flow (B, 2, S/4, S/4) of their backgrounds."""
        return self.generator(*self.inputs(composite, before, person, place))

    @torch.no_grad()
    def render(self, compositor, sources, id, exp, angle, trans, gamma, affine, torso=None):
        """Yield (picture (S, S, 3) uint8 RGB, new (S, S) float32 0..1, mask (S, S) of the head) of each frame.

        sources: iterable of (`composite.Source`, second Source or None, its share), one a frame, see `sources.faded`; coefficients (T, n),
        affine (T, 2, 3); torso (T, 2): where the torso lies (`stance.Torso.shift`), by default it follows the head. A frame depends on the
        composite of the one before only. For models of one person: see `personal`.
        """
        before = None
        for t, (first, second, share) in enumerate(sources):
            state = [torch.as_tensor(x)[t : t + 1] for x in (id, exp, angle, trans, gamma, affine)]
            own = None if torso is None else torso[t : t + 1]
            if second is None:
                composite = compositor.make([first], *state, torso=own)
            else:
                composite = compositor.faded([first], [second], [share], *state, torso=own)
            picture, new, _ = self(composite, composite.background if before is None else before)
            before = composite.background
            picture = to_picture(picture[0])
            yield picture, new[0, 0].numpy(), composite.mask[0, 0].numpy()

    def losses(self, batch, phase):
        """{name: scalar}. generator: l1, mouth, perceptual, temporal, those of `flow_losses` and, from `polish_after` iterations on,
        adversarial and feature_matching; discriminator: discriminator."""
        n_frames = batch["pictures"].shape[1]
        if phase == "generator" or self._made[0] is not batch:
            side = self.dims["patch"]
            self._made = (batch, *self._frames(batch, self._corners(batch, side), side))
        _, composite, before, real, person, place = self._made
        polish = batch["iteration"] >= self.dims["polish_after"]
        context = torch.cat([composite.mesh, composite.mask], 1)
        if phase == "discriminator":
            if not polish:
                return {"discriminator": 0.0 * sum(p.sum() for p in self.discriminator.parameters())}
            return {
                "discriminator": gan.discriminator_loss(
                    self.discriminator(torch.cat([real, context], 1)),
                    self.discriminator(torch.cat([self._picture, context], 1)),
                )
            }
        picture, _, flow = self(composite, before, person, place)
        self._picture = picture.detach()
        found = self._distances(picture, real, composite.mouth, n_frames)
        found |= flow_losses(flow, composite.background, real)
        if not polish:
            return found | {"adversarial": picture.new_zeros(()), "feature_matching": picture.new_zeros(())}
        made = self.discriminator(torch.cat([picture, context], 1))
        with torch.no_grad():
            true = self.discriminator(torch.cat([real, context], 1))
        return found | {
            "adversarial": gan.adversarial_loss(made),
            "feature_matching": gan.feature_matching(true, made),
        }

    def _distances(self, picture, real, mouth, n_frames):
        miss = (picture - real).abs()
        lips = F.max_pool2d(mouth, MOUTH_GROWTH, 1, MOUTH_GROWTH // 2)
        out = {"l1": miss.mean(), "mouth": (miss * lips).sum() / (3 * lips.sum() + 1)}
        out["perceptual"] = self.perceptual(picture, real)
        change = [x.unflatten(0, (-1, n_frames)).diff(dim=1) for x in (picture, real)]
        out["temporal"] = (change[0] - change[1]).abs().mean() if n_frames > 1 else miss.new_zeros(())
        return out

    def _frames(self, batch, corners=None, side=None):
        """Composite, background of the frame before, real pictures, person and place of all frames (B T, ...), cut to squares."""
        n_frames, real = batch["pictures"].shape[1], batch["pictures"]
        composite = self.stage.composites(batch, corners, side).to(self.texture.device)
        if corners is not None:
            real = torch.stack([p[..., r : r + side, c : c + side] for p, (r, c) in zip(real, corners, strict=True)])
        frames = composite.background.unflatten(0, (-1, n_frames))
        before = torch.cat([frames[:, :1], frames[:, :-1]], 1).flatten(0, 1)
        place = place_planes(batch["pictures"].shape[-1], corners or [(0, 0)] * len(real), side)
        place = place.repeat_interleave(n_frames, 0).to(self.texture.device)
        return composite, before, real.flatten(0, 1).float() / 255, batch["person"].repeat_interleave(n_frames), place

    def _corners(self, batch, side):
        """First pixel (row, column) of each window's training patch."""
        size, corners = batch["pictures"].shape[-1], []
        for b in range(len(batch["person"])):
            points, draw = batch["points"][b, 0].cpu(), torch.rand(3)
            if draw[0] < MOUTH_CHANCE + FACE_CHANCE:
                about_mouth = bool(draw[0] < MOUTH_CHANCE)
                points = points[48:] if about_mouth else points
                spread = (side if about_mouth else float((points.amax(0) - points.amin(0)).max())) / 4
                centre = points.mean(0) + (draw[1:] * 2 - 1) * spread
            else:
                centre = draw[1:] * size
            column, row = (centre - side / 2).round().clamp(0, size - side).int().tolist()
            # patches begin at even pixels, as the half-size inputs of whole pictures do
            corners.append((row // 2 * 2, column // 2 * 2))
        return corners

    @torch.no_grad()
    def evaluate(self, batch):
        """Losses over whole crops, and dB of face and mouth: of the picture, of the composite it began with, and of that when moved."""
        composite, before, real, person, place = self._frames(batch)
        picture, _, flow = self(composite, before, person, place)
        found = self._distances(picture, real, composite.mouth, batch["pictures"].shape[1])
        found |= flow_losses(flow, composite.background, real)
        moved = warp(composite.background, flow)
        for name, ids in (("face", slice(0, 68)), ("mouth", slice(48, 68))):
            boxes = _boxes(batch["points"].flatten(0, 1)[:, ids], real.shape[-1])
            for kind, x in (("", picture), ("composite_", composite.background), ("moved_", moved)):
                error = torch.stack(
                    [(a - b)[:, r, c].square().mean() for a, b, (r, c) in zip(x, real, boxes, strict=True)]
                )
                found[f"{kind}{name}_db"] = (-10 * error.clamp_min(1e-10).log10()).mean()
        return found


def enlarged(picture, composite, fine, flow=None):
    """Pictures (B, 3, S, S) at the size of finer composites of the same frames: what the network changed is laid on their background, which
    has the source's own detail; the mouth, which the network makes anew, is only made larger.

    composite: that of `picture`; fine: a `Composite` at a whole multiple of S; flow (B, 2, s, s): that of a generator which moves the
    background first. Sharper to the eye than the picture made larger, though by
    half a dB farther from the real one, as detail that lies a pixel off counts as an error.
    """
    scale = fine.background.shape[-1] / picture.shape[-1]
    reach = MOUTH_GROWTH // 2
    mouth = F.max_pool2d(composite.mouth, MOUTH_GROWTH, 1, reach)
    mouth = F.avg_pool2d(mouth, MOUTH_GROWTH, 1, reach, count_include_pad=False)
    base, fine_base = composite.background, fine.background
    if flow is not None:
        base, fine_base = warp(base, flow), warp(fine_base, scale * flow)
    change = picture - base
    change, mouth = (F.interpolate(x, scale_factor=scale, mode="bilinear") for x in (change, mouth))
    large = F.interpolate(picture, scale_factor=scale, mode="bicubic")
    detailed = fine_base + change
    return (detailed + mouth * (large - detailed)).clamp(0, 1)


class Frozen:
    """A loss that is no part of a module's state and that copies of the module share."""

    def __init__(self, loss):
        self.loss = loss

    def __deepcopy__(self, memo):
        return self

    def __call__(self, made, real):
        return self.loss.to(made.device)(made, real)


def _boxes(points, size):
    """Row and column slices of the boxes about points (N, K, 2)."""
    low, high = (
        points.amin(1).floor().int().clamp(0, size - 2).tolist(),
        points.amax(1).ceil().int().clamp(1, size - 1).tolist(),
    )
    return [(slice(a[1], b[1] + 1), slice(a[0], b[0] + 1)) for a, b in zip(low, high, strict=True)]
