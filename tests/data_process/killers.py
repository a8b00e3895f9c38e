"""Functions for workers of tests. They lie apart so that a fresh process need not import the rest."""

import os
import signal
import time


def killed_by(item):
    """Square of a number; (path, times) kills its worker so often, counting in the file."""
    if isinstance(item, tuple):
        path, times = item
        with open(path, "ab+") as file:
            file.write(b".")
            if file.tell() <= times:
                file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
        return "survived"
    return item * item


def where(_):
    """The machine of a Ray cluster that this runs on."""
    import ray

    time.sleep(0.5)
    return ray.get_runtime_context().get_node_id()
