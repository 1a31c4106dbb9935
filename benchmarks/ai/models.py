"""The models of the figures, as TorchScript archives: a 10x10 linear layer, a two-layer convnet on 1x28x28, ResNet-18."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn


class Residual(nn.Module):
    """Two 3x3 convolutions with a way past them."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
            nn.Conv2d(outside, outside, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.past: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            self.past = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.past(x))


def resnet18() -> nn.Module:
    """ResNet-18 for 1000 classes (He et al. 2015, table 1), 11.7 million weights."""
    stages: list[nn.Module] = []
    inside = 64
    for outside, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        stages += [Residual(inside, outside, stride), Residual(outside, outside, 1)]
        inside = outside
    head = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    return nn.Sequential(*head, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


def convnet() -> nn.Module:
    """Two convolutions and two dense layers, as for MNIST."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """A model and the input of one sample."""

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]

    def sample(self, size: int = 1) -> np.ndarray[Any, Any]:
        return np.random.default_rng(1).random((size, *self.shape)).astype(np.float32)

    def blob(self) -> bytes:
        torch.manual_seed(1)
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.trace(self.make().eval(), torch.zeros(1, *self.shape)), buffer)
        return buffer.getvalue()


LINEAR = Subject("linear", lambda: nn.Linear(10, 10), (10,))
CONVNET = Subject("convnet", convnet, (1, 28, 28))
RESNET = Subject("resnet18", resnet18, (3, 224, 224))
