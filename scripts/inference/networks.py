"""What runs the networks: torch in float32 or bf16, or ONNX Runtime."""

import contextlib

import torch
from torch import nn

from deep_3drecon.assets import assets_dir
from models.onnx_backend import OnnxNetwork, with_onnx


def default_threads(drawn_by_network):
    """Threads of torch. Where a network draws, composites are made beside it on a core of their own; more threads than cores would
    wait for each other.
    """
    return max(1, min(2, torch.get_num_threads() - drawn_by_network))


def onnx_folder():
    """Where exported networks are kept: beside the assets, ignored by git."""
    return assets_dir() / "onnx"


def method_on(method, backend):
    """The method with its network on the backend that the command line names."""
    return with_onnx(method, onnx_folder()) if backend == "onnx" else method


def has_bf16():
    """Does this processor multiply bf16? Elsewhere it is slower than float32."""
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


class Bf16(nn.Module):
    """A network whose convolutions run in bf16 and channels last, everything between them in float32."""

    def __init__(self, net):
        super().__init__()
        self.net = net.to(memory_format=torch.channels_last)
        for module in self.net.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                module.to(torch.bfloat16)

    def forward(self, *tensors):
        with torch.autocast("cpu", torch.bfloat16):
            out = self.net(*tensors)
        return tuple(x.float() for x in out)


def generator_on(net, examples, backend, device):
    """A renderer's generator, ready to draw: tensors -> tuple of float32 tensors.

    examples: tensors it is called with, for the export. On the CPU torch takes bf16 where the processor has it: pictures differ
    by less than a level on average.
    """
    net = net.eval().requires_grad_(False)
    if backend == "onnx":
        return OnnxNetwork.of(net, examples, onnx_folder())
    if device.type == "cpu" and has_bf16():
        return Bf16(net)
    return net


@contextlib.contextmanager
def drawing():
    """No gradients in this thread."""
    with torch.inference_mode():
        yield
