"""Devices by name; one that is not there is refused in one line."""

import pytest
import torch

from models.device import DeviceError, pick_device


def test_names_of_devices():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto", 1) == torch.device("cuda:1" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:99"])
def test_one_that_is_not_there(name):
    with pytest.raises(DeviceError, match="cannot be used here .*: take cpu or auto") as caught:
        pick_device(name)
    assert "\n" not in str(caught.value)
