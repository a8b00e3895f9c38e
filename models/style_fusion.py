"""StyleFusionNet: the network of style_avatar, one-dimensional residual convolution over time that the style joins half way.

`paper` is the network of Wu et al. (MM 2021) number by number; `tiny` is ours and has one stride only (see `models.style_avatar`).
"""

import torch
from torch import nn

PAPER_WINDOW, PAPER_STRIDE, PAPER_CONTEXT = 32, 8, 4  # frames

# Our names -> names in the released file, in the order of the state dict (models.style_avatar_networks.released_name). The numbers
# of the second backbone go on counting where the first one (blocks 0 to 20, then the dropout) stops.
RELEASED_BACKBONE = (
    ("stems.phonemes.", "audio_layer."),
    ("stems.energy.", "energy_layer."),
    ("encoder.", "backbone1."),
    ("decoder.0.", "backbone2.22."),
    ("decoder.1.", "backbone2.23."),
    ("heads.expression.", "out_layer."),
    ("style_mlp.", "exp_sty_layer."),
    (".shortcut.", ".shortcut_layer."),
    (".residual.", ".res_layer."),
)


def paper_preset(width=64, style_width=256, head_width=64, dropout=0.5):
    """Settings of `StyleFusionNet` in the paper; stems are channels of each stream."""
    return {
        "stems": {"phonemes": 3 * width // 4, "energy": width // 4},
        "widths": (width, 2 * width, 4 * width),
        "depths": (3, 4, 14),
        "strides": (2, 2, 2),
        "decoder_depth": 2,
        "style_width": style_width,
        "head_width": head_width,
        "dropout": dropout,
        "steps_out": PAPER_WINDOW,
    }


def tiny_preset(width=128, depth=4, decoder_depth=1, style_width=64, head_width=64, dropout=0.1, learnt_style=0):
    """Settings of `StyleFusionNet` for minutes on a CPU: about a million parameters.

    learnt_style: numbers of a code that `models.style_encoder` finds in a clip, beside the statistics; 0 is none. Training it needs
    data.style_frames.
    """
    return {
        "learnt_style": learnt_style,
        "stems": {"phonemes": 3 * width // 8, "mel": width // 2, "energy": width // 8},
        "widths": (width, width),
        "depths": (1, depth),
        "strides": (1, 2),
        "decoder_depth": decoder_depth,
        "style_width": style_width,
        "head_width": head_width,
        "dropout": dropout,
        "steps_out": None,
    }


PRESETS = {"paper": paper_preset, "tiny": tiny_preset}


class ResidualBlock(nn.Module):
    """BN, conv 3, PReLU, conv 3 (stride), BN beside a shortcut: (B, n_in, L) -> (B, n_out, ceil(L / stride)).

    The shortcut picks every stride-th step, and is a 1 x 1 convolution with BN where the width changes.
    """

    def __init__(self, n_in, n_out, stride=1):
        super().__init__()
        self.stride = stride
        if n_in != n_out:
            self.shortcut = nn.Sequential(nn.Conv1d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm1d(n_out))
        else:
            self.shortcut = None
        self.residual = nn.Sequential(
            nn.BatchNorm1d(n_in),
            nn.Conv1d(n_in, n_out, 3, padding=1, bias=False),
            nn.PReLU(n_out),
            nn.Conv1d(n_out, n_out, 3, stride, padding=1, bias=False),
            nn.BatchNorm1d(n_out),
        )

    def forward(self, x):
        shortcut = x[:, :, :: self.stride] if self.shortcut is None else self.shortcut(x)
        return shortcut + self.residual(x)


class StyleFusionNet(nn.Module):
    """Audio streams (B, C, A) and style (B, S) -> {head: (B, n, frames)}, channels first.

    streams        {name: (channels in, channels of its stem)}
    n_style        length of the style code
    heads          {name: channels out}, each with its own output layers on the shared decoder
    widths, depths, strides  one entry a stage of the encoder: channels, blocks, stride of the first block
    decoder_depth  blocks after the style has joined, widths[-1] + style_width wide
    dropout        on the latent: half of it gone forces the paper's network to look at the style
    steps_out      stretch the latent linearly to so many frames; None keeps the encoder's time axis
    """

    def __init__(
        self,
        streams,
        n_style,
        heads,
        widths,
        depths,
        strides,
        decoder_depth,
        style_width,
        head_width,
        dropout,
        steps_out=None,
    ):
        super().__init__()
        self.strides, self.depths, self.decoder_depth, self.steps_out = (
            tuple(strides),
            tuple(depths),
            decoder_depth,
            steps_out,
        )
        self.stems = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Conv1d(n, stem, 3, padding=1),
                    nn.BatchNorm1d(stem),
                    nn.ReLU(),
                    nn.Conv1d(stem, stem, 3, padding=1),
                )
                for name, (n, stem) in streams.items()
            }
        )
        width, blocks = sum(stem for _, stem in streams.values()), []
        for next_width, depth, stride in zip(widths, depths, strides, strict=True):
            for i in range(depth):
                blocks.append(ResidualBlock(width, next_width, stride if i == 0 else 1))
                width = next_width
        self.encoder = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        width += style_width
        self.decoder = nn.Sequential(*[ResidualBlock(width, width) for _ in range(decoder_depth)])
        self.heads = nn.ModuleDict({name: head(width, head_width, n, steps_out) for name, n in heads.items()})
        self.style_mlp = nn.Sequential(nn.Linear(n_style, 64), nn.ReLU(), nn.Linear(64, style_width))
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    @property
    def radius(self):
        """Frames on each side of a frame that its output depends on, for one row pair a frame (steps_out None)."""
        rows, step = 2, 1  # the stems' two convolutions
        for depth, stride in zip(self.depths, self.strides, strict=True):
            rows += step + step  # first convolution before the stride, second one strided
            step *= stride
            rows += (depth - 1) * 2 * step
        rows += (2 * self.decoder_depth + 2) * step
        return -(-rows // step)

    def encode(self, features):
        """Latent (B, widths[-1], L) of {stream: (B, C, A)}."""
        return self.encoder(torch.cat([stem(features[name]) for name, stem in self.stems.items()], 1))

    def forward(self, features, style):
        latent = self.dropout(self.encode(features))
        code = self.style_mlp(style)[:, :, None].expand(-1, -1, latent.shape[-1])
        fused = self.decoder(torch.cat([latent, code], 1))
        return {name: layers(fused) for name, layers in self.heads.items()}


def head(width, head_width, n_out, steps_out):
    """Output layers: stretch in time (or nothing), BN, conv 3, PReLU, conv 3."""
    stretch = nn.Identity() if steps_out is None else nn.Upsample(steps_out, mode="linear", align_corners=False)
    return nn.Sequential(
        stretch,
        nn.BatchNorm1d(width),
        nn.Conv1d(width, head_width, 3, padding=1, bias=False),
        nn.PReLU(head_width),
        nn.Conv1d(head_width, n_out, 3, padding=1, bias=False),
    )
