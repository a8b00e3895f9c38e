"""Sound files of every kind give the same samples at the same times, or an error that says what is wrong."""

import numpy as np
import pytest
import soundfile
import soxr

from deepspeech import SAMPLE_RATE, AudioError, load_audio
from deepspeech import audio_io as module
from tests.deepspeech import made

PULSES = made.pulses(SAMPLE_RATE)


@pytest.mark.parametrize(
    "kind, rate, channels, error",
    [
        ("wav PCM_U8", 16000, 1, 0.01),
        ("wav PCM_16", 8000, 1, 1e-4),
        ("wav PCM_16", 11025, 2, 1e-4),
        ("wav PCM_24", 48000, 2, 1e-4),
        ("wav PCM_32", 96000, 6, 1e-4),
        ("wav FLOAT", 44100, 2, 1e-4),
        ("wav DOUBLE", 22000, 1, 1e-4),
        ("wav ULAW", 8000, 1, 0.02),
        ("flac PCM_24", 44100, 2, 1e-4),
        ("aiff PCM_16", 32000, 1, 1e-4),
        ("ogg VORBIS", 44100, 2, 0.05),
        ("mp3 MPEG_LAYER_III", 44100, 2, 0.05),
    ],
)
def test_rate_channels_and_sample_format(tmp_path, kind, rate, channels, error):
    extension, subtype = kind.split()
    path = tmp_path / f"sound.{extension}"
    soundfile.write(path, np.tile(made.pulses(rate)[:, None], channels), rate, subtype=subtype)
    wav = load_audio(path)
    assert wav.dtype == np.float32 and wav.ndim == 1
    assert abs(len(wav) - len(PULSES)) <= 1
    n = min(len(wav), len(PULSES))
    np.testing.assert_allclose(wav[:n], PULSES[:n], atol=error)


def test_channels_are_averaged(tmp_path):
    tone, other = made.pulses(16000), np.cos(np.arange(48000) / 7)
    soundfile.write(tmp_path / "stereo.wav", np.stack([tone, 0.3 * other], 1), 16000, subtype="FLOAT")
    np.testing.assert_allclose(load_audio(tmp_path / "stereo.wav"), (tone + 0.3 * other) / 2, atol=1e-6)


@pytest.mark.parametrize(
    "name, audio, picture",
    [
        ("a.m4a", "aac", None),
        ("a.mp4", "aac", "libx264"),
        ("a.mkv", "pcm_s16le", "libx264"),
        ("a.webm", "libopus", "libvpx"),
        ("a.avi", "pcm_s16le", "mpeg4"),
        ("a.mpg", "mp2", "mpeg1video"),
        ("a.ts", "aac", "libx264"),
    ],
)
def test_containers(tmp_path, name, audio, picture):
    made.write_file(tmp_path / name, made.pulses(48000), 48000, audio, picture)
    lag, r = made.delay(load_audio(tmp_path / name), PULSES)
    assert abs(lag) <= 1 and r > 0.999


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
@pytest.mark.parametrize("sound_at, picture_at", [(0.5, 0.0), (0.0, 0.4)])
def test_sound_keeps_its_place_beside_the_picture(tmp_path, name, sound_at, picture_at):
    made.write_file(
        tmp_path / name, made.pulses(48000), 48000, "aac", "libx264", sound_at=sound_at, picture_at=picture_at
    )
    wav = load_audio(tmp_path / name)
    lag, _ = made.delay(wav, PULSES)
    expected = (sound_at - picture_at) * SAMPLE_RATE
    assert abs(lag - expected) <= 16  # mp4 stores the start in whole milliseconds
    assert abs(len(wav) - (len(PULSES) + expected)) < 0.03 * SAMPLE_RATE


def test_a_cover_image_is_no_picture(tmp_path):
    made.write_file(tmp_path / "a.mp4", made.pulses(48000), 48000, "aac", "mjpeg", sound_at=0.5, cover=True)
    lag, _ = made.delay(load_audio(tmp_path / "a.mp4"), PULSES)
    assert (
        abs(lag) < 400
    )  # 0.5 s would be 8000; the encoder's lead-in of 21 ms counts as sound where nothing tells of it


def test_a_hole_in_the_time_stamps_is_silence(tmp_path):
    jump = 24000
    made.write_file(tmp_path / "a.mkv", made.pulses(48000), 48000, "pcm_s16le", gap=(1024 * 40, jump))
    wav = load_audio(tmp_path / "a.mkv")
    at = round(1024 * 40 / 3)
    np.testing.assert_allclose(wav[: at - 100], PULSES[: at - 100], atol=1e-3)
    assert np.abs(wav[at + 50 : at + 7950]).max() < 1e-3
    lag, r = made.delay(wav[at + 8050 :], PULSES[at + 50 :])
    assert abs(lag) <= 8 and r > 0.98  # mkv counts in whole milliseconds


def test_absurd_time_stamps_are_refused(tmp_path):
    made.write_file(tmp_path / "a.mkv", made.pulses(48000), 48000, "pcm_s16le", gap=(1024 * 40, 48000 * 3600))
    with pytest.raises(AudioError, match="jump by 3600 s"):
        load_audio(tmp_path / "a.mkv")


def test_blocks_join_without_a_seam(monkeypatch):
    """Block by block = soxr on the whole sound, to the last bit; so the length of the blocks cannot matter."""
    wav = np.random.default_rng(0).uniform(-0.5, 0.5, (100_000, 2)).astype(np.float32)
    expected = soxr.resample(wav.mean(1, dtype=np.float32), 44100, SAMPLE_RATE, quality="HQ")
    for seconds in (1, 10):
        monkeypatch.setattr(module, "READ_SECONDS", seconds)
        np.testing.assert_array_equal(load_audio(wav, 44100), expected)


@pytest.mark.parametrize("kind", ["uint8", "int16", "int32", "float64"])
def test_arrays_of_any_type(kind):
    wav = PULSES
    if kind != "float64":
        info = np.iinfo(kind)
        half = (info.max - info.min + 1) / 2
        wav = np.round(PULSES * (half - 1) + (half if kind == "uint8" else 0)).astype(kind)
    np.testing.assert_allclose(load_audio(wav, 16000), PULSES, atol=0.01 if kind == "uint8" else 1e-4)


def test_files_that_hold_no_sound(tmp_path):
    with pytest.raises(AudioError, match="absent.wav: is missing"):
        load_audio(tmp_path / "absent.wav")
    with pytest.raises(AudioError, match="is a folder"):
        load_audio(tmp_path)
    (tmp_path / "empty.wav").touch()
    with pytest.raises(AudioError, match="empty .0 bytes"):
        load_audio(tmp_path / "empty.wav")
    (tmp_path / "noise.mp4").write_bytes(b"\x07 this is no film" * 400)
    with pytest.raises(AudioError, match="noise.mp4: not readable"):
        load_audio(tmp_path / "noise.mp4")
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16000)
    with pytest.raises(AudioError, match="no sound .0 samples"):
        load_audio(tmp_path / "none.wav")


def test_a_silent_film_is_named_as_such(tmp_path):
    import av

    with av.open(str(tmp_path / "mute.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    with pytest.raises(AudioError, match="no audio stream .it holds video"):
        load_audio(tmp_path / "mute.mp4")


def test_samples_that_are_no_sound(tmp_path):
    wav = made.pulses(44100)
    wav[44100 * 2] = np.nan
    soundfile.write(tmp_path / "nan.wav", wav, 44100, subtype="FLOAT")
    with pytest.raises(AudioError, match="nan.wav: the sample at 2.000 s is not a number"):
        load_audio(tmp_path / "nan.wav")
    with pytest.raises(AudioError, match="infinite"):
        load_audio(np.array([0.0, np.inf]), 16000)
    with pytest.raises(AudioError, match="reach 12000.*32768"):
        load_audio(np.array([0.0, 12000.0]), 16000)
    with pytest.raises(AudioError, match="without sample_rate"):
        load_audio(np.zeros(100))
    with pytest.raises(AudioError, match=r"\(2, 16000\)"):
        load_audio(np.zeros((2, 16000)), 16000)
    with pytest.raises(AudioError, match="0 samples"):
        load_audio(np.zeros(0), 16000)
    with pytest.raises(AudioError, match="sample_rate=0"):
        load_audio(np.zeros(100), 0)
    with pytest.raises(AudioError, match="leave it out"):
        load_audio(tmp_path / "nan.wav", 16000)


@pytest.mark.parametrize("name", ["a.flac", "a.mp4"])
def test_a_damaged_file_is_refused_unless_a_part_will_do(tmp_path, name):
    path, wav = tmp_path / name, np.tile(made.pulses(48000), 4) + np.random.default_rng(0).normal(0, 0.01, 576000)
    if name.endswith("flac"):
        soundfile.write(path, wav, 48000)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 6 // 10])
    else:
        made.write_file(path, wav, 48000)
        data = bytearray(path.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 3000] = np.random.default_rng(1).bytes(3000)
        path.write_bytes(data)
    with pytest.raises(AudioError, match="damaged after .* s of sound"):
        load_audio(path)
    part = load_audio(path, partial=True)
    assert 4 * SAMPLE_RATE < len(part) < 9 * SAMPLE_RATE
    assert made.delay(part[: 3 * SAMPLE_RATE], PULSES)[0] == 0


def test_private_footage_has_sound_as_long_as_its_picture(media):
    import av

    for path in sorted((media / "clips").glob("PC-AVS__*.mp4")) + sorted((media / "clips").glob("GRID__*.mpg")):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            seconds = float(stream.duration * stream.time_base)
        assert abs(len(load_audio(path)) / SAMPLE_RATE - seconds) < 0.1, path.name
