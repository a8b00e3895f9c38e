"""Networks of the two papers on personal head motion, in the papers' sizes (Yi et al., 2020; Yi et al., TMM 2022).

AudioNet      ATC-net of 2020: cepstra of each frame -> expression and pose; 29,430,534 parameters with 64 + 6 outputs
PoseEncoder   TMM 2022: head poses of some seconds -> behaviour code of 10 numbers; 1,760,042 parameters
PoseDecoder   TMM 2022: cepstra at 100 Hz and a code -> head pose at 25 fps; 10,656,518 parameters
"""

import torch
from torch import nn

MFCC_ROWS = 28  # of one frame's window of sound; 12 columns, the energy left out
POSE, CODE = 6, 10  # Euler angles and translation; numbers of a behaviour code
CEPSTRA = 13  # at 100 Hz, energy included

# Our module names -> names in the released checkpoints, spelling as it is there.
RELEASED_NAMES = (
    ("cells.", "audio_eocder."),
    ("frame_mlp.", "audio_eocder_fc."),
    ("coefficients.", "lstm_fc."),
    ("pose_mlp.", "fc."),
    ("gather.", "audio_frame_gather."),
    ("frames.", "sfc."),
)


def released_name(name):
    """The name that the original checkpoints give to one entry of a network's state dict."""
    for ours, theirs in RELEASED_NAMES:
        if name.startswith(ours):
            return theirs + name[len(ours) :]
    return name


def cell(n_in, n_out):
    """3 x 3 convolution without bias, batch norm, ReLU."""
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU())


class AudioNet(nn.Module):
    """Windows of cepstra (B, T, 28, 12) -> coefficients (B, T, n_out): each frame by itself, then an LSTM over frames.

    widths: channels of the five convolutions; wide: of the first fully connected layer, which holds 25 of 29 million parameters.
    """

    def __init__(self, n_out=64 + POSE, widths=(64, 128, 256, 256, 512), wide=2048, hidden=256):
        super().__init__()
        a, b, c, d, e = widths
        self.cells = nn.Sequential(
            cell(1, a), cell(a, b), nn.MaxPool2d(3, (1, 2)), cell(b, c), cell(c, d), cell(d, e), nn.MaxPool2d(3, (2, 2))
        )  # fmt: skip
        self.frame_mlp = nn.Sequential(nn.Linear(e * 12 * 2, wide), nn.ReLU(), nn.Linear(wide, hidden), nn.ReLU())
        self.lstm = nn.LSTM(hidden, hidden, 3, batch_first=True)
        self.coefficients = nn.Sequential(nn.Linear(hidden, n_out))

    def forward(self, mfcc):
        frames = self.cells(mfcc.flatten(0, 1)[:, None])
        frames = self.frame_mlp(frames.flatten(1)).unflatten(0, mfcc.shape[:2])
        return self.coefficients(self.lstm(frames)[0])


class Layer(nn.Module):
    """A layer under the name `fc`, as the released encoder and decoder nest theirs."""

    def __init__(self, *layers):
        super().__init__()
        self.fc = nn.Sequential(*layers)

    def forward(self, x):
        return self.fc(x)


class PoseEncoder(nn.Module):
    """Head poses (B, T, 6) -> behaviour code (B, 10), LSTM outputs (B, T, 256), its final states joined (B, 1536)."""

    def __init__(self, hidden=256, widths=(256, 128, 64, 32), n_code=CODE):
        super().__init__()
        self.pose_lstm = nn.LSTM(POSE, hidden, 3, batch_first=True)
        sizes = (6 * hidden, *widths)
        layers = [Layer(nn.Linear(a, b), nn.ReLU()) for a, b in zip(sizes, sizes[1:], strict=False)]
        self.pose_mlp = nn.Sequential(*layers, nn.Linear(widths[-1], n_code))

    def forward(self, pose):
        sequence, (hidden, cells) = self.pose_lstm(pose)
        state = torch.cat([hidden, cells]).transpose(0, 1).flatten(1)
        return self.pose_mlp(state), sequence, state


class PoseDecoder(nn.Module):
    """Cepstra (B, R, 13) at 100 Hz and a behaviour code (B, 10) -> head pose (B, (R - 28) // 4 + 1, 6) at 25 fps."""

    def __init__(self, hidden=256, wide=1024, widths=(512, 256), n_code=CODE):
        super().__init__()
        self.audio_lstm = nn.LSTM(CEPSTRA, hidden, 3, batch_first=True)
        self.gather = nn.Conv1d(hidden, wide, MFCC_ROWS, stride=4)
        sizes = (wide + n_code, *widths)
        layers = [
            Layer(nn.Conv1d(a, b, 3, padding=1), nn.BatchNorm1d(b), nn.ReLU())
            for a, b in zip(sizes, sizes[1:], strict=False)
        ]
        self.frames = nn.Sequential(*layers, nn.Conv1d(widths[-1], POSE, 1))

    def forward(self, cepstra, code):
        sound = self.gather(self.audio_lstm(cepstra)[0].transpose(1, 2))
        code = code[:, :, None].expand(-1, -1, sound.shape[-1])
        return self.frames(torch.cat([sound, code], 1)).transpose(1, 2)
