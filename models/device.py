"""The device that networks run on, by the name that settings and command lines give it."""

import torch


class DeviceError(ValueError):
    """A device that does not exist here."""


def pick_device(name, number=0):
    """torch.device called cpu, cuda, cuda:1, ...; auto is the GPU of that number where there is one, else the processor."""
    if name == "auto":
        return torch.device(f"cuda:{number}" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(f"device {name!r}: cannot be used here ({reason}): take cpu or auto") from error
    return device
