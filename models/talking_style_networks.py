"""Networks of talking_style: sound to motion of a mesh, and a sample of somebody's motion to the manner of it."""

import torch
from torch import nn
from torch.nn import functional

CODE, LEAST_SPREAD = 32, 0.05


def ours_preset(width=128, depth=8, style_width=96, table=1, encoder=1):
    """Ours. encoder 0: no style encoder, everybody talks like the pivot (ablation)."""
    return {"width": width, "depth": depth, "style_width": style_width, "table": table, "encoder": encoder}


def tiny_preset(width=48, depth=4, style_width=32, table=1, encoder=1):
    """For tests."""
    return ours_preset(width, depth, style_width, table, encoder)


PRESETS = {"ours": ours_preset, "tiny": tiny_preset}
DILATIONS = (1, 2, 4, 8)


class Block(nn.Module):
    """Residual block over time whose features the style turns up, down and shifts: (B, W, L), (B, D) -> (B, W, L)."""

    def __init__(self, width, style_width, dilation):
        super().__init__()
        self.radius = dilation + 1
        self.norm = nn.BatchNorm1d(width)
        self.first = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv1d(width, width, 3, padding=1)
        self.film = nn.Linear(style_width, 2 * width)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x, style):
        gain, shift = self.film(style)[..., None].chunk(2, 1)
        hidden = self.first(functional.gelu(self.norm(x)))
        return x + self.second(functional.gelu(hidden * (1 + gain) + shift))


class MotionNet(nn.Module):
    """Rows of sound (B, C, A) and a code (B, D) -> (B, K, A)."""

    def __init__(self, n_in, n_code, n_out, width, depth, style_width):
        super().__init__()
        self.stem = nn.Conv1d(n_in, width, 5, padding=2)
        self.code = nn.Sequential(nn.Linear(n_code, style_width), nn.GELU(), nn.Linear(style_width, style_width))
        self.blocks = nn.ModuleList(Block(width, style_width, DILATIONS[k % len(DILATIONS)]) for k in range(depth))
        self.head = nn.Sequential(nn.BatchNorm1d(width), nn.GELU(), nn.Conv1d(width, n_out, 3, padding=1))

    @property
    def radius(self):
        """Rows on each side that an output row depends on."""
        return 2 + sum(block.radius for block in self.blocks) + 1

    def forward(self, sound, code):
        x, code = self.stem(sound), self.code(code)
        for block in self.blocks:
            x = block(x, code)
        return self.head(x)


class StyleEncoder(nn.Module):
    """A sample of motion (B, S, K), with or without its sound (B, S, C), valid (B, S) -> style vector (B, CODE + 2 K).

    Rest and spread of each coefficient are those of the sample, drawn towards the average person by learnt shares; the code is
    learnt from what the motion looks like, given what is said. `present` (B,) says whose sound is known.
    """

    def __init__(self, n_motion, n_sound, width):
        super().__init__()
        self.first = nn.Conv1d(2 * n_motion + n_sound + 1, width, 5, padding=2)
        self.second = nn.Conv1d(width, width, 5, padding=4, dilation=2)
        self.attention = nn.Conv1d(width, 1, 1)
        self.code = nn.Sequential(nn.Linear(2 * width + 3 * n_motion, width), nn.GELU(), nn.Linear(width, CODE))
        # shares of the sample in rest and spread, and what the code adds to them
        self.share = nn.Parameter(torch.full((2, n_motion), 2.0))
        self.correct = nn.Linear(CODE, 2 * n_motion)
        nn.init.zeros_(self.correct.weight)
        nn.init.zeros_(self.correct.bias)

    def forward(self, motion, sound, valid, present):
        known = valid[..., None].to(motion.dtype)
        count = known.sum(1).clamp_min(2)
        rest = (motion * known).sum(1) / count
        spread = (((motion - rest[:, None]) ** 2 * known).sum(1) / count).sqrt().clamp_min(LEAST_SPREAD).log()
        change = functional.pad(motion[:, 1:] - motion[:, :-1], (0, 0, 1, 0)) * known
        pace = ((change**2).sum(1) / count).sqrt().clamp_min(0.2 * LEAST_SPREAD).log()
        sound = sound * present[:, None, None]
        told = present[:, None, None].expand(-1, motion.shape[1], 1)
        x = torch.cat([motion, 5 * change, sound, told], -1) * known
        x = functional.gelu(self.second(functional.gelu(self.first(x.transpose(1, 2)))))
        weight = self.attention(x).masked_fill(~valid[:, None], -torch.inf).softmax(-1)
        mean = (x * weight).sum(-1)
        deviation = ((x - mean[..., None]).square() * weight).sum(-1).add(1e-6).sqrt()
        code = self.code(torch.cat([mean, deviation, rest, spread, pace], -1))
        share, (more_rest, more_spread) = self.share.sigmoid(), self.correct(code).chunk(2, -1)
        return torch.cat([code, share[0] * rest + more_rest, share[1] * spread + more_spread], -1)
