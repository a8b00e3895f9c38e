"""Several processes that train as one with a batch of all of theirs: gradients averaged, batch norm over all of the batch."""

import torch.distributed.nn.functional as across
from torch import distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel


class SharedBatchNorm(_BatchNorm):
    """Batch norm (B, C, ...) whose mean and variance are those of the batches of all processes, on any device.

    In place of `nn.SyncBatchNorm`, which needs a GPU; weights, running values and names are those of the layer it replaces. Every process
    must hold equally many values.
    """

    def _check_input_dim(self, x):
        if x.dim() < 2:
            raise ValueError(f"{tuple(x.shape)} came, (B, C, ...) is needed")

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        world, over = distributed.get_world_size(), [d for d in range(x.dim()) if d != 1]
        shape = [-1 if d == 1 else 1 for d in range(x.dim())]
        wide = x.float()
        mean = across.all_reduce(wide.mean(over)) / world
        apart = wide - mean.view(shape)
        variance = across.all_reduce(apart.square().mean(over)) / world
        if self.track_running_stats:
            self._follow(mean.detach(), variance.detach(), world * x.numel() // x.shape[1])
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        out = apart * scale.view(shape)
        return (out + self.bias.view(shape) if self.affine else out).to(x.dtype)

    def _follow(self, mean, variance, n):
        self.num_batches_tracked.add_(1)
        share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * n / max(1, n - 1), share)  # unbiased, as torch keeps it


def share_batch_norm(module):
    """Put `SharedBatchNorm` in place of every batch norm below a module; parameters stay the same objects."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            shared = SharedBatchNorm(
                child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
            )
            shared._parameters, shared._buffers, shared.training = child._parameters, child._buffers, child.training
            setattr(module, name, shared)
        else:
            share_batch_norm(child)


def together(steps, device, several_phases):
    """The module `steps` as one of the processes that torchrun started. several_phases: an iteration trains parts of the parameters."""
    if device.type == "cuda":
        steps = nn.SyncBatchNorm.convert_sync_batchnorm(steps)
    else:
        share_batch_norm(steps)
    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(steps, device_ids=ids, find_unused_parameters=several_phases)
