"""Phoneme posteriors: one grid of windows whatever way the sound comes, and the right place in time."""

import threading

import hama
import numpy as np
import pytest

from deepspeech import (
    BLANK,
    LIVE,
    PHONEMES,
    AudioError,
    FeatureStream,
    energy,
    features,
    get_prob,
    load_audio,
    mel,
    n_feature_rows,
    phone_spans,
    smooth_prob,
)
from deepspeech import posteriors as module
from tests.deepspeech import made

RATE = 16000


@pytest.fixture(scope="module")
def speech():
    """14 s of syllables: three blocks."""
    wav = made.syllables(28)
    assert 14 * RATE < len(wav) < 14.5 * RATE
    return wav


@pytest.fixture(scope="module")
def raw(speech):
    return get_prob(speech)


@pytest.fixture(scope="module")
def whole(speech, raw):
    return {"phonemes": smooth_prob(raw), "mel": mel(speech), "energy": energy(speech)}


def test_one_window_is_the_network_itself_with_columns_added_up():
    """The reduction to 39 + 1 columns against a plain sum by symbol."""
    wav = made.syllables(5)
    padded = np.zeros(n_feature_rows(len(wav)) * 320, np.float32)
    padded[: len(wav)] = wav
    model = hama.ASRModel()
    feeds = {"waveform": padded[None], "waveform_lengths": np.array([len(padded)])}
    probs = np.exp(model.session.run(["log_probs"], feeds)[0][0])
    prob = get_prob(wav)
    assert prob.shape == (n_feature_rows(len(wav)), 40)
    for column, symbol in enumerate(PHONEMES[:-1]):
        names = [symbol, *(other for other, near in module.NEAR.items() if near == symbol)]
        expected = sum(probs[: len(prob), model.decoder_tokens.index(name)] for name in names)
        np.testing.assert_allclose(prob[:, column], expected, atol=1e-6)
    np.testing.assert_allclose(prob.sum(axis=1), 1.0, atol=1e-5)


def test_symbols():
    assert len(PHONEMES) == len(set(PHONEMES)) == 40 and PHONEMES[-1] == BLANK
    assert set(module.NEAR.values()) <= set(PHONEMES) and not set(module.NEAR) & set(PHONEMES)
    assert set(module.NEAR) <= set(hama.ASRModel().decoder_tokens)


def test_vowels_are_read_at_their_times(raw):
    """Each vowel within 0.1 s of its onset, also beside the borders of blocks at 6 and 12 s."""
    spans = phone_spans(raw)
    kinds = ("ɑ", "i", "oʊ", "eɪ ɪ ɛ")
    found = 0
    for i, onset in enumerate(made.vowel_onsets(28)):
        found += any(span.symbol in kinds[i % 4].split() and abs(span.start - onset) <= 0.1 for span in spans)
    assert found >= 26


@pytest.mark.parametrize("size", [317, 96_000, 10**7])
def test_a_stream_gives_the_same_rows_to_the_last_bit(speech, whole, size):
    stream = FeatureStream()
    parts = [stream.push(speech[i : i + size]) for i in range(0, len(speech), size)] + [stream.close()]
    for name, rows in whole.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), rows, err_msg=name)


def test_a_stream_is_not_late(speech, whole):
    """8.1 s after a row's time it has come, and the rows of all features come together."""
    stream, n = FeatureStream(), 0
    for i in range(0, len(speech), 1600):
        part = stream.push(speech[i : i + 1600])
        assert len({len(rows) for rows in part.values()}) == 1
        n += len(part["mel"])
        heard = (i + 1600) / RATE
        assert n / 50 >= heard - 8.1 - 0.1
        assert len(stream._samples) <= 10.1 * RATE


@pytest.mark.parametrize("size", [320, 7001])
def test_a_live_stream_is_early_and_equals_its_whole(speech, raw, size):
    """Half-second blocks: the rows of features(wav, grid=LIVE), each within 0.9 s, and much like those of whole files."""
    short, stream, n = speech[: 6 * RATE], FeatureStream(LIVE), 0
    parts = []
    for i in range(0, len(short), size):
        parts.append(stream.push(short[i : i + size]))
        n += len(parts[-1]["mel"])
        assert n / 50 >= min(i + size, len(short)) / RATE - stream.latency_s - 0.02 and len(stream._samples) < 4 * RATE
    assert stream.latency_s < 0.9
    parts.append(stream.close())
    for name, rows in features(short, grid=LIVE).items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), rows, err_msg=name)
    phonemes = np.concatenate([part["phonemes"] for part in parts])
    assert np.corrcoef(phonemes[:250].ravel(), smooth_prob(raw)[:250].ravel())[0, 1] > 0.8


def test_a_stream_that_ends_must_not_go_on():
    stream = FeatureStream()
    assert len(stream.push(np.zeros(0, np.float32))["phonemes"]) == 0
    stream.push(np.zeros(3200, np.float32))
    assert len(stream.close()["phonemes"]) == 10
    with pytest.raises(ValueError, match="after close"):
        stream.push(np.zeros(100, np.float32))
    with pytest.raises(ValueError, match="twice"):
        stream.close()


@pytest.mark.parametrize("seconds, sure", [(8.0, 6.0), (9.3, 6.0), (14.0, 12.0)])
def test_a_beginning_gives_the_same_rows(speech, whole, seconds, sure):
    """What follows a block by more than its context cannot change it: blocks end at 6, 12, ... s, context is 2 s."""
    n = round(sure * 50) - module.SMOOTHING_ROWS
    part = features(speech[: round(seconds * RATE)])
    for name in whole:
        np.testing.assert_array_equal(part[name][:n], whole[name][:n], err_msg=name)


def test_threads_do_not_change_the_result(speech, whole):
    np.testing.assert_array_equal(features(speech, threads=3)["phonemes"], whole["phonemes"])
    results, pieces = {}, [np.roll(speech[:32000], 4000 * i) for i in range(3)]

    def work(i):
        results[i] = get_prob(pieces[i])

    workers = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for i, prob in results.items():
        np.testing.assert_array_equal(prob, get_prob(pieces[i]))


@pytest.mark.parametrize("shift", [0.5, 3.0])
def test_shifted_sound_gives_shifted_rows(speech, whole, shift):
    """Also when the shift moves the sound over the border of a block."""
    wav, rows, n = speech[: 8 * RATE], whole, round(shift * 50)
    moved = features(np.concatenate([np.zeros(round(shift * RATE), np.float32), wav]))
    mel_rows, mel_moved = rows["mel"][:380], moved["mel"][n : n + 380]
    np.testing.assert_allclose(mel_moved, mel_rows, atol=1e-4)
    phones = rows["phonemes"][:380, :-1]
    r = [
        np.corrcoef(phones[5:-5].ravel(), moved["phonemes"][n + k + 5 : n + k + 375, :-1].ravel())[0, 1]
        for k in (-1, 0, 1)
    ]
    assert np.argmax(r) == 1 and r[1] > 0.9


def test_smoothing():
    prob = np.zeros((30, 40), np.float32)
    prob[:, -1] = 1.0
    prob[10] = 0.0
    prob[10, 3] = 1.0
    smooth = smooth_prob(prob)
    assert smooth[:, 3].argmax() == 10 and smooth[:, 3].nonzero()[0].tolist() == list(range(6, 15))
    assert smooth[:, 3].sum() == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(smooth.sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(smooth[:, 3], smooth[20::-1, 3].tolist() + [0] * 9, atol=1e-7)  # symmetric about row 10
    np.testing.assert_allclose(smooth_prob(prob[:1]).sum(axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("n", [1, 160, 3200, 96_001])
def test_short_sounds_and_silence(n):
    rows = features(np.zeros(n, np.float32))
    assert {len(value) for value in rows.values()} == {n_feature_rows(n)}
    assert rows["phonemes"][:, -1].min() > 0.8
    assert all(np.isfinite(value).all() and value.dtype == np.float32 for value in rows.values())


def test_clipping_noise():
    noise = np.sign(np.random.default_rng(0).standard_normal(2 * RATE)).astype(np.float32)
    rows = features(noise)
    assert all(np.isfinite(value).all() for value in rows.values())
    np.testing.assert_allclose(rows["energy"][2:-2], 1.0, rtol=1e-5)


def test_a_sound_of_another_kind_is_refused():
    for wav in (np.zeros((2, 100), np.float32), np.zeros(0, np.float32), np.zeros(50, np.int16)):
        with pytest.raises(AudioError):
            get_prob(wav)
    with pytest.raises(AudioError, match="not a number"):
        FeatureStream().push(np.array([np.nan], np.float32))


def test_phone_spans_by_hand():
    prob = np.zeros((60, 40), np.float32)
    prob[:, -1] = 0.6
    for rows, symbol in ((slice(5, 8), "m"), (slice(8, 9), "ɑ"), (slice(12, 13), "ɑ"), (slice(50, 60), "s")):
        prob[rows, PHONEMES.index(symbol)] = 0.9
    spans = [(symbol, round(start, 3), round(end, 3)) for symbol, start, end in phone_spans(prob)]
    assert spans == [("m", 0.1, 0.16), ("ɑ", 0.16, 0.24), ("ɑ", 0.24, 0.54), ("s", 1.0, 1.2)]
    assert phone_spans(prob[:3]) == []


def test_private_speech_is_read_at_its_time(media):
    """Speech begins and pauses where the loudness does, in a sentence with a clear pause."""
    wav = load_audio(media / "wav" / "speechbrain__spk1_snt1.wav")
    spans = phone_spans(get_prob(wav))
    read = "".join(span.symbol for span in spans)
    assert "t͡ʃaɪld" in read and "smɔl" in read  # "... child ... small ..."
    pause = max(b.start - a.start for a, b in zip(spans, spans[1:], strict=False))
    before = next(i for i, (a, b) in enumerate(zip(spans, spans[1:], strict=False)) if b.start - a.start == pause)
    assert spans[before + 1].start == pytest.approx(1.84, abs=0.06)  # the loudness rises again at 1.84 s
