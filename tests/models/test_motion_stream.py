"""Motion of a stream against that of the whole sound: equal to the last bit, whatever the pieces, and no later than promised."""

import numpy as np
import pytest
import torch

from models.motion_stream import MotionStream, StreamError
from models.style import Style
from models.style_avatar import StyleAvatar
from tests.models.toy import settings, toy_clip, toy_face, toy_stats

N_FRAMES = 203


@pytest.fixture(scope="module")
def talk():
    """Method, style, rows, amplitude measured on another sound, and the motion of the whole."""
    clips = [toy_clip(k, n_frames=N_FRAMES) for k in range(2)]
    torch.manual_seed(0)
    method = StyleAvatar(settings("tiny"), toy_stats(clips), toy_face()).eval()
    style = Style.from_statistics(clips[0]["statistics"])
    rows = {name: clips[0][name] for name in method.streams}
    amplitude = method.amplitude(method.raw_motion(clips[1], style), style)
    return method, style, rows, amplitude


def pieces(rows, size):
    """The rows cut into pieces of `size`; 0: of random sizes, empty ones among them."""
    n, at, rng = 2 * N_FRAMES, 0, np.random.default_rng(0)
    while at < n:
        step = size or int(rng.integers(0, 60))
        yield {name: x[at : at + step] for name, x in rows.items()}
        at += step


@pytest.mark.parametrize("size", [1, 7, 64, 0, 2 * N_FRAMES])
def test_pieces_equal_the_whole(talk, size):
    method, style, rows, amplitude = talk
    stream = MotionStream(method, style, amplitude, seed=3)
    got = [stream.push(piece) for piece in pieces(rows, size)] + [stream.close()]
    whole = method.generate(rows, style, N_FRAMES, seed=3, chunk=stream.chunk, amplitude=amplitude)
    assert whole["exp"].std() > 0 and whole["angle"].std() > 0
    for name, value in whole.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in got]), value)


@pytest.mark.parametrize("head", [True, False])
def test_frames_come_no_later_than_promised(talk, head):
    method, style, rows, amplitude = talk
    stream = MotionStream(method, style, amplitude, head=head)
    given, latest = 0, 0
    for heard, piece in enumerate(pieces(rows, 2), 1):
        given += len(stream.push(piece)["exp"])
        latest = max(latest, heard - given)
    assert latest == stream.latency_frames == stream.chunk - 1 + stream.context + stream.reach
    assert (stream.reach > 0) == head


def test_memory_does_not_grow(talk):
    method, style, rows, amplitude = talk
    stream = MotionStream(method, style, amplitude)
    for _ in range(5):
        for piece in pieces(rows, 50):
            stream.push(piece)
    assert len(stream.rows["mel"]) < 400 and len(stream.pose) < 400 and len(stream.exp) < 200


def test_silence_and_misuse(talk):
    method, style, rows, amplitude = talk
    stream = MotionStream(method, style, amplitude)
    assert stream.close()["exp"].shape == (0, 52)
    with pytest.raises(StreamError, match="after close"):
        stream.push(rows)
    paper = StyleAvatar(settings("paper"), toy_stats([toy_clip(0)]), toy_face())
    with pytest.raises(StreamError, match="tiny"):
        MotionStream(paper, style, amplitude)
