"""Frames and sound -> videos, encoded beside the drawing."""

import queue
import threading
from contextlib import ExitStack, closing

import numpy as np
from tqdm import tqdm

import deepspeech
from data_process.video import VideoWriter
from deep_3drecon.track import FPS

SYNTHETIC = "synthetic video: this person did not say this. Made with Idiolect."  # comment tag of every result
AHEAD = 8  # frames that may wait between two stages


def beside(items, n_ahead=AHEAD):
    """The same items, made in a thread of their own up to n_ahead before they are asked for; 0: in the caller's.

    An error there is raised here. Closing the generator stops the thread.
    """
    if not n_ahead:
        yield from items
        return
    waiting, closed = queue.Queue(maxsize=n_ahead), threading.Event()
    end = object()

    def put(item):
        while not closed.is_set():
            try:
                waiting.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def make():
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((end, None))
        except BaseException as error:  # raised again in the reader's thread
            put((end, error))
        finally:
            if hasattr(items, "close"):
                items.close()

    maker = threading.Thread(target=make, daemon=True)
    maker.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is end:
                return
            yield item
    finally:
        closed.set()
        maker.join()


def pictures(streams):
    """Frames of several videos in step, each stream giving a tuple of views: all views of each, and, of more than one video, all
    side by side, view by view."""
    try:
        for made in zip(*streams, strict=True):
            flat = [picture for views in made for picture in views]
            if len(made) > 1:
                flat += [np.concatenate(same, 1) for same in zip(*made, strict=True)]
            yield tuple(flat)
    finally:
        for stream in streams:
            if hasattr(stream, "close"):
                stream.close()


def encode(paths, frames, n_frames, wav, stamp=None, clock=None, n_ahead=AHEAD):
    """Write one video for each path; `frames` yields tuples with a picture for each.

    Drawing and encoding run beside each other. An error in either leaves no file. stamp: marks a picture before it is
    encoded. clock: called after each frame, for those who measure. n_ahead: 0 draws and encodes in turn.
    """
    with ExitStack() as stack:
        options = {"fps": FPS, "audio": wav, "sample_rate": deepspeech.SAMPLE_RATE, "comment": SYNTHETIC}
        videos = [stack.enter_context(VideoWriter(path, **options)) for path in paths]
        drawn = stack.enter_context(closing(beside(frames, n_ahead)))
        for made in tqdm(drawn, total=n_frames, unit="frame", disable=None):
            for video, picture in zip(videos, made, strict=True):
                video.write(picture if stamp is None else stamp(picture))
            if clock is not None:
                clock()
