"""Residual networks: He et al., "Deep Residual Learning", 2015. Names and strides as torchvision's.

ResNeXt: Xie et al., "Aggregated Residual Transformations", 2016.
"""

from __future__ import annotations

from typing import Any

from fastcnn import functional
from fastcnn.layers import BatchNorm2d, Conv2d, GlobalAvgPool2d, Layer, Linear, MaxPool2d, ReLU
from fastcnn.layers.initial import RandomSource
from fastcnn.model import Model
from fastcnn.sequential import Sequential
from fastcnn.zoo._construct import construct

__all__ = ["resnet18", "resnet20", "resnet34", "resnet50", "resnext50"]

STAGE_WIDTHS = (64, 128, 256, 512)

SMALL_WIDTHS = (16, 32, 64)  # of the networks for 32 x 32 pixels, section 4.2
RESNET20_DEPTH = 3

# Blocks in each of the four stages.
RESNET18 = (2, 2, 2, 2)
RESNET34 = (3, 4, 6, 3)
RESNET50 = (3, 4, 6, 3)

RESNEXT_GROUPS, RESNEXT_GROUP_WIDTH = 32, 4  # of the 3x3 convolutions in the first stage


def _shortcut(in_channels: int, out_channels: int, stride: int) -> Sequential | None:
    """Return what makes a block's input fit its output, or None where it does already."""
    if stride == 1 and in_channels == out_channels:
        return None
    return Sequential(Conv2d(in_channels, out_channels, 1, stride, bias=False), BatchNorm2d(out_channels))


class BasicBlock(Layer):
    """Two 3x3 convolutions, added to the input."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        self.conv1 = Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.relu = ReLU()
        self.conv2 = Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(width)
        self.downsample = _shortcut(in_channels, width, stride)

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, H, W) to (N, width, H/stride, W/stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(Layer):
    """1x1, 3x3 (which has the stride: "v1.5") and 1x1 convolutions, added to the input."""

    expansion = 4

    groups = 1

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        out_channels, hidden = width * self.expansion, self.hidden_channels(width)
        self.conv1 = Conv2d(in_channels, hidden, 1, bias=False)
        self.bn1 = BatchNorm2d(hidden)
        self.conv2 = Conv2d(hidden, hidden, 3, stride, padding=1, groups=self.groups, bias=False)
        self.bn2 = BatchNorm2d(hidden)
        self.conv3 = Conv2d(hidden, out_channels, 1, bias=False)
        self.bn3 = BatchNorm2d(out_channels)
        self.relu = ReLU()
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, H, W) to (N, 4 * width, H/stride, W/stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))

    @classmethod
    def hidden_channels(cls, width: int) -> int:
        """Channels of the 3x3 convolution in a stage of this width."""
        return width


class GroupedBottleneck(Bottleneck):
    """A bottleneck whose 3x3 convolution has groups: ResNeXt's."""

    groups = RESNEXT_GROUPS

    @classmethod
    def hidden_channels(cls, width: int) -> int:
        """Channels of the 3x3 convolution in a stage of this width."""
        return width // STAGE_WIDTHS[0] * RESNEXT_GROUP_WIDTH * cls.groups


class ResNet(Model):
    """A 7x7 convolution, four stages of residual blocks, global pooling, one fully connected layer.

    Parameters
    ----------
    block : type
        `BasicBlock`, `Bottleneck` or `GroupedBottleneck`.
    depths : tuple of 4 int
        Blocks in each stage.
    num_classes, in_channels : int
        Outputs, and channels of the input.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        num_classes: int,
        in_channels: int,
    ) -> None:
        channels = STAGE_WIDTHS[0]
        self.conv1 = Conv2d(in_channels, channels, 7, 2, padding=3, bias=False)
        self.bn1 = BatchNorm2d(channels)
        self.relu = ReLU()
        self.maxpool = MaxPool2d(3, 2, padding=1)
        for stage, (width, depth) in enumerate(zip(STAGE_WIDTHS, depths, strict=True), start=1):
            blocks: list[Layer] = []
            for i in range(depth):
                blocks.append(block(channels, width, stride=2 if i == 0 and stage > 1 else 1))
                channels = width * block.expansion
            setattr(self, f"layer{stage}", Sequential(*blocks))
        self.avgpool = GlobalAvgPool2d()
        self.fc = Linear(channels, num_classes)

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, H, W) to (N, num_classes)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(functional.flatten(self.avgpool(x)))


class SmallResNet(Model):
    """For images of about 32 x 32 pixels: a 3x3 convolution, three stages of basic blocks, global pooling, one fully
    connected layer (section 4.2). Where channels double, the shortcut is a 1x1 convolution, the paper's option B."""

    def __init__(self, depth: int, num_classes: int, in_channels: int) -> None:
        channels = SMALL_WIDTHS[0]
        self.conv1 = Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.bn1 = BatchNorm2d(channels)
        self.relu = ReLU()
        for stage, width in enumerate(SMALL_WIDTHS, start=1):
            blocks = []
            for i in range(depth):
                blocks.append(BasicBlock(channels, width, stride=2 if i == 0 and stage > 1 else 1))
                channels = width
            setattr(self, f"layer{stage}", Sequential(*blocks))
        self.avgpool = GlobalAvgPool2d()
        self.fc = Linear(channels, num_classes)

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, H, W) to (N, num_classes)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(functional.flatten(self.avgpool(x)))


def _build(
    block: type[BasicBlock] | type[Bottleneck],
    depths: tuple[int, int, int, int],
    num_classes: int,
    in_channels: int,
    rng: RandomSource,
) -> Model:
    return construct(lambda: ResNet(block, depths, num_classes, in_channels), (in_channels, 224, 224), rng)


def resnet18(num_classes: int = 1000, in_channels: int = 3, *, rng: RandomSource = 0) -> Model:
    """ResNet-18: eight basic blocks, 11.7 million parameters with 1000 classes.

    Parameters
    ----------
    num_classes, in_channels : int
        Outputs, and channels of the input.
    rng : numpy.random.Generator, int or None
        Source of the first weights.

    Returns
    -------
    Model
        With ``input_shape`` (in_channels, 224, 224); other sizes from 33 on work too.

    Examples
    --------
    >>> resnet18(num_classes=10).fc
    Linear(in_features=512, out_features=10)
    """
    return _build(BasicBlock, RESNET18, num_classes, in_channels, rng)


def resnet34(num_classes: int = 1000, in_channels: int = 3, *, rng: RandomSource = 0) -> Model:
    """ResNet-34: sixteen basic blocks, 21.8 million parameters with 1000 classes.

    Parameters
    ----------
    num_classes, in_channels, rng
        As for `resnet18`.

    Returns
    -------
    Model

    Examples
    --------
    >>> len(resnet34().layer3)
    6
    """
    return _build(BasicBlock, RESNET34, num_classes, in_channels, rng)


def resnet50(num_classes: int = 1000, in_channels: int = 3, *, rng: RandomSource = 0) -> Model:
    """ResNet-50: sixteen bottleneck blocks, 25.6 million parameters with 1000 classes.

    Parameters
    ----------
    num_classes, in_channels, rng
        As for `resnet18`.

    Returns
    -------
    Model

    Examples
    --------
    >>> resnet50().fc
    Linear(in_features=2048, out_features=1000)
    """
    return _build(Bottleneck, RESNET50, num_classes, in_channels, rng)


def resnext50(num_classes: int = 1000, in_channels: int = 3, *, rng: RandomSource = 0) -> Model:
    """ResNeXt-50 (32x4d): sixteen bottleneck blocks of 32 groups, 25.0 million parameters with 1000 classes.

    Parameters
    ----------
    num_classes, in_channels, rng
        As for `resnet18`.

    Returns
    -------
    Model

    Examples
    --------
    >>> resnext50().layer1[0].conv2
    Conv2d(128, 128, kernel_size=(3, 3), padding=1, groups=32, bias=False)
    """
    return _build(GroupedBottleneck, RESNET50, num_classes, in_channels, rng)


def resnet20(num_classes: int = 10, in_channels: int = 3, *, rng: RandomSource = 0) -> Model:
    """ResNet-20 for 32 x 32 pixels: nine basic blocks of 16, 32 and 64 channels, 0.27 million parameters.

    Parameters
    ----------
    num_classes, in_channels, rng
        As for `resnet18`.

    Returns
    -------
    Model
        With ``input_shape`` (in_channels, 32, 32); other sizes work too.

    Examples
    --------
    >>> sum(array.size for _, array in resnet20().named_parameters())
    272474
    """
    return construct(lambda: SmallResNet(RESNET20_DEPTH, num_classes, in_channels), (in_channels, 32, 32), rng)
