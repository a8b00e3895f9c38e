"""ResNet-50 without its classifier, under the names of torchvision's: pictures to 2048 numbers a picture.

The variant with the stride in the 3 x 3 convolution of each bottleneck, as Deep3DFaceReconstruction in PyTorch and torchvision have it.
"""

from torch import nn

STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # width, number of bottlenecks, stride of the first
EXPANSION = 4
N_FEATURES = EXPANSION * STAGES[-1][0]


class Bottleneck(nn.Module):
    """1 x 1 to `width`, 3 x 3 with the stride, 1 x 1 to 4 x `width`, beside a shortcut: (B, n_in, H, W) -> (B, 4 width, H/s, W/s)."""

    def __init__(self, n_in, width, stride):
        super().__init__()
        n_out = EXPANSION * width
        self.conv1 = nn.Conv2d(n_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, n_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(n_out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or n_in != n_out:
            self.downsample = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet50(nn.Module):
    """Pictures (B, 3, H, W) -> (B, 2048, 1, 1), the mean over the picture of the last stage."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        n_in = 64
        for number, (width, count, stride) in enumerate(STAGES, 1):
            blocks = [
                Bottleneck(n_in if k == 0 else EXPANSION * width, width, stride if k == 0 else 1) for k in range(count)
            ]
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
            n_in = EXPANSION * width
        self.avgpool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.avgpool(x)
