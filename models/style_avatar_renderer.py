"""The renderer of style_avatar: Wu et al., MM 2021, its general form (R1), which takes people it was not trained on.

Three frames of a person, laid out on the atlas, become a neural texture; looked up at the atlas places of a pose it is painted into
a face by a generator on two resolutions. Two players: generator (texture encoder and painter), discriminator.

Pictures within are BGR in [-1, 1], as the released weights want them; in and out go RGB. What is mended here: places in the atlas are
numbers and never passed through a video; the three textures know what their frames hide; the picture is laid into its scene
instead of on black. The defect of the perceptual loss (VGG19 fed with BGR in [-1, 1], not with what it was trained on) is mended
as well; dims.legacy_vgg = 1 brings it back.

Presets:
paper  202,241,749 parameters; frames of 224 px, textures of 256; needs a GPU
tiny   for tests
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from deep_3drecon import camera, unwrap
from deep_3drecon.assets import assets_dir
from deep_3drecon.face_model import load_face_model
from models.neural_texture import Frozen
from models.perceptual import VGG_WEIGHTS, PerceptualLoss
from models.presets import preset_dims
from models.stage import Stage
from models.style_avatar_networks import LocalEnhancer, TextureEncoder, TwoScales, sample_texture

PAPER = {
    "texture_channels": 16,
    "texture_size": 256,
    "encoder_width": 64,
    "width": 64,
    "blocks": 9,
    "fine_blocks": 3,
    "halvings": 3,
    "judge_width": 64,
    "legacy_vgg": 0,
}
TINY = PAPER | {
    "texture_channels": 4, "texture_size": 64, "encoder_width": 4, "width": 4, "blocks": 1, "fine_blocks": 1, "halvings": 1,
    "judge_width": 4,
}  # fmt: skip
PRESETS = {"paper": PAPER, "tiny": TINY}
N_TEXTURES = 3  # frames that the encoder sees
VGG_FILE = "judges/vgg19-dcbb9e9d.pth"  # among the assets: torchvision's, brought by the user
FIRST_SPREAD = 0.02  # of the convolutions' first weights


def to_network(pictures):
    """RGB in [0, 1] (..., 3, H, W) -> BGR as the networks take it: x / 128 - 1 for x from 0 to 255."""
    return pictures.flip(-3) * (255 / 128) - 1


def to_picture(made):
    """The inverse of `to_network`, held within [0, 1]."""
    return ((made + 1) * (128 / 255)).flip(-3).clamp(0, 1)


class LegacyVgg:
    """The paper's perceptual loss with its defect: VGG19 sees BGR in [-1, 1] without the shift and scale it was trained with."""

    def __init__(self, weights):
        self.loss = PerceptualLoss("vgg19", weights)

    def to(self, device):
        """Moved to where the pictures are."""
        self.loss.to(device)
        return self

    def __call__(self, made, real):
        """Pictures as the networks make them."""
        pairs = zip(VGG_WEIGHTS, self.loss._vgg(made), self.loss._vgg(real), strict=True)
        return sum(weight * F.l1_loss(a, b.detach()) for weight, a, b in pairs)


class ProperVgg(LegacyVgg):
    """The same with pictures as the backbone knows them: VGG19 where the user has its file, else EfficientNet-Lite0."""

    def __init__(self, weights):
        self.loss = PerceptualLoss("vgg19", weights) if weights.is_file() else PerceptualLoss()

    def __call__(self, made, real):
        return self.loss(to_picture(made), to_picture(real))


class InScene(nn.Module):
    """Looked-up texture (B, n, S, S), background (B, 3, S, S) and mask (B, 1, S, S) -> (picture with the painted face in it, mask)."""

    def __init__(self, painter):
        super().__init__()
        self.painter = painter

    def forward(self, found, background, mask):
        face = to_picture(self.painter(found).float())
        return background + mask * (face - background), mask


class StyleAvatarRenderer(nn.Module):
    """settings: preset, dims; stats: `about()` of data_process.pictures.PictureWindows."""

    phases = ("generator", "discriminator")
    data_kind = "pictures"
    not_released = ("discriminator.",)

    def __init__(self, settings, stats, face=None):
        super().__init__()
        dims = preset_dims(PRESETS, settings["preset"], settings.get("dims", {}))
        self.settings, self.stats, self.dims = settings, stats, dims
        self.face = face or load_face_model(stats["face_model"])
        n, e = dims["texture_channels"], dims["encoder_width"]
        self.encoder = TextureEncoder(3 * N_TEXTURES, n, (e, 2 * e, 4 * e, 8 * e, 8 * e))
        self.painter = LocalEnhancer(n, 3, dims["width"], dims["blocks"], dims["fine_blocks"], dims["halvings"])
        self.discriminator = TwoScales(3 + 3 * N_TEXTURES, dims["judge_width"])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, FIRST_SPREAD)
                nn.init.zeros_(module.bias)
        self.stage = self.perceptual = self._seen = self._neural = None
        self._made = (None,)

    def attach(self, train_set):
        """What training needs and no checkpoint holds: composites, the textures of each person's first frames, the perceptual loss."""
        weights = assets_dir() / VGG_FILE
        self.stage = Stage(train_set.people, self.stats["size"])
        self._seen = Given(
            *map(torch.stack, zip(*(self.first_frames(person) for person in train_set.people), strict=True))
        )
        self.perceptual = Frozen((LegacyVgg if self.dims["legacy_vgg"] else ProperVgg)(weights))

    def first_frames(self, person):
        """Textures (9, A, A) and pictures (9, S, S) of the first frames of a data_process.pictures.Footage, as networks take them."""
        first, end = person.learning
        frames = first + np.flatnonzero(person.valid[first:end])
        frames = frames[np.arange(N_TEXTURES).clip(0, len(frames) - 1)]
        state = {
            name: torch.from_numpy(person.state[name][frames]) for name in ("id", "exp", "angle", "trans", "affine")
        }
        pictures = person.pictures[frames]
        textures = [self.unwrapped(p, *(x[k] for x in state.values())) for k, p in enumerate(pictures)]
        pictures = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255.0
        return torch.cat(textures), to_network(pictures).flatten(0, 1)

    def unwrapped(self, picture, id, exp, angle, trans, affine):
        """Texture (3, A, A), row 0 at v = 0, of a picture (S, S, 3) uint8 RGB and its coefficients (n,), as networks take it."""
        posed = camera.pose(self.face.vertices(id, exp), angle, trans)
        place, cosine = unwrap.places(posed, affine), unwrap.facing(self.face, posed)
        atlas = unwrap.unwrap(np.ascontiguousarray(picture), place, cosine, self.face, size=self.dims["texture_size"])
        return to_network(torch.from_numpy(atlas.colour).permute(2, 0, 1) / 255.0)

    def parameters_of(self, phase):
        modules = [self.discriminator] if phase == "discriminator" else [self.encoder, self.painter]
        return [p for module in modules for p in module.parameters()]

    def forward(self, textures, uv, mask):
        """Textures (B, 9, A, A), places uv (B, S, S, 2), mask (B, 1, S, S) -> picture (B, 3, S, S) and looked-up texture (B, n, S, S),
        both 0 outside of the mask."""
        found = sample_texture(self.encoder(textures), uv) * mask
        return self.painter(found) * mask, found

    def losses(self, batch, phase):
        """{name: scalar}. generator: texture (first three channels of the texture against the frame), l1, perceptual, adversarial,
        feature_matching; discriminator: discriminator. All on the face alone."""
        if phase == "generator":
            made, found, real, shown = self._faces(batch)
            self._made = (batch, made.detach(), real, shown)
        if phase == "discriminator":
            kept, made, real, shown = self._made
            if kept is not batch:
                with torch.no_grad():
                    made, _, real, shown = self._faces(batch)
            real, made = (
                self.discriminator(torch.cat([real, shown], 1)),
                self.discriminator(torch.cat([made, shown], 1)),
            )
            pairs = zip(real, made, strict=True)
            return {"discriminator": sum(0.5 * ((r[-1] - 1).square().mean() + m[-1].square().mean()) for r, m in pairs)}
        judged = self.discriminator(torch.cat([made, shown], 1))
        with torch.no_grad():
            wanted = self.discriminator(torch.cat([real, shown], 1))
        matched = [
            F.l1_loss(a, b) for m, w in zip(judged, wanted, strict=True) for a, b in zip(m[:-1], w[:-1], strict=True)
        ]
        return self._distances(made, found, real) | {
            "adversarial": sum((m[-1] - 1).square().mean() for m in judged),
            "feature_matching": 0.5 * sum(matched),
        }

    def _distances(self, made, found, real):
        perceptual = self.perceptual(made, real)
        return {"texture": F.l1_loss(found[:, :3], real), "l1": F.l1_loss(made, real), "perceptual": perceptual}

    def _faces(self, batch):
        """Made and real faces on 0, looked-up texture, and the first frames of each one's person: (B T, ...)."""
        device, n_frames = next(self.parameters()).device, batch["pictures"].shape[1]
        composite = self.stage.composites(batch).to(device)
        textures, shown = (x.to(device)[batch["person"].cpu()] for x in (self._seen.textures, self._seen.pictures))
        textures, shown = (x.repeat_interleave(n_frames, 0) for x in (textures, shown))
        real = to_network(batch["pictures"].flatten(0, 1).float() / 255) * composite.mask
        made, found = self(textures, composite.uv, composite.mask)
        return made, found, real, shown

    @torch.no_grad()
    def evaluate(self, batch):
        """Losses that need no discriminator, and dB of the face within the mask."""
        made, found, real, _ = self._faces(batch)
        mask = (real != 0).any(1, keepdim=True)
        error = ((to_picture(made) - to_picture(real)).square() * mask).sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3)) + 1)
        return self._distances(made, found, real) | {"face_db": (-10 * error.clamp_min(1e-10).log10()).mean()}

    @property
    def generator(self):
        """What draws a frame from `inputs`."""
        return InScene(self.painter)

    @torch.no_grad()
    def meet(self, compositor, textures=None):
        """Make the neural texture of the person whose frames `inputs` and `render` are asked for next.

        textures (9, A, A): see `first_frames`; by default the person's whole texture, three times.
        """
        if textures is None:
            whole = torch.from_numpy(compositor.colour).permute(2, 0, 1)[None] / 255.0
            textures = to_network(F.interpolate(whole, self.dims["texture_size"], mode="area")[0]).repeat(
                N_TEXTURES, 1, 1
            )
        self._neural = self.encoder(textures[None].to(next(self.parameters()).device))

    def inputs(self, composite, before=None, person=None):
        """What the generator takes for one frame's composite; before and person are other renderers' affair."""
        return sample_texture(self._neural, composite.uv) * composite.mask, composite.background, composite.mask

    def examples(self, size):
        """Tensors that the generator is called with."""
        return tuple(torch.zeros(1, n, size, size) for n in (self.dims["texture_channels"], 3, 1))

    @torch.no_grad()
    def render(self, compositor, sources, id, exp, angle, trans, gamma, affine, textures=None):
        """Yield (picture (S, S, 3) uint8 RGB, new (S, S) float32 0..1, mask (S, S) of the head) of each frame.

        sources: iterable of `composite.Source`, one a frame; the face is laid on each one's background. textures: as in `meet`.
        """
        self.meet(compositor, textures)
        generator, device = self.generator, next(self.parameters()).device
        for t, source in enumerate(sources):
            state = (torch.as_tensor(x)[t : t + 1] for x in (id, exp, angle, trans, gamma, affine))
            composite = compositor.make([source], *state).to(device)
            picture, new = (x[0].cpu() for x in generator(*self.inputs(composite)))
            yield (picture.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy(), new[0].numpy(), new[0].numpy()


class Given:
    """Tensors that are no part of a module's state and that copies of the module share."""

    def __init__(self, textures, pictures):
        self.textures, self.pictures = textures, pictures

    def __deepcopy__(self, memo):
        return self
