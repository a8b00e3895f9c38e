"""What all tests share: one torch thread, no network, and the way to private footage where a machine has it.

def test_real_clip(media): ...      # skipped with a reason where ../shared/media is absent
"""

import os
import socket
from pathlib import Path

# before torch and numba are imported: with other work on the cores, two threads are slower than one
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import pytest  # noqa: E402

MEDIA = Path(__file__).parents[1].parent / "shared" / "media"


class NetworkInTest(AssertionError):
    """A test tried to reach another machine."""


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def no_network():
    """Connections to other machines fail; those inside this one (DataLoader workers, torch.distributed) work."""
    connect = socket.socket.connect

    def connect_locally(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise NetworkInTest(f"a test tried to connect to {address}: tests use no network")
        return connect(self, address)

    socket.socket.connect = connect_locally
    yield
    socket.socket.connect = connect


@pytest.fixture(scope="session")
def media():
    """Folder of the private footage."""
    if not MEDIA.is_dir():
        pytest.skip("private footage ../shared/media absent")
    return MEDIA
