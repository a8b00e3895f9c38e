"""The made-up corpus: mouths that close when they should, speakers as asked for, stores that train. No speech maker is needed."""

import itertools

import numpy as np
import pytest

from data_process import made_speech, synthetic, visemes
from data_process.clip_records import ClipSettings
from data_process.dataset import WindowDataset
from data_process.made_speakers import draw_speaker
from data_process.made_speech import Phone, Recording, Voice, read_phones
from data_process.schema import StoreError
from data_process.stats import compute
from data_process.store import Store
from data_process.upper_face import blink_curve, smooth_noise
from data_process.visemes import MouthStyle, VisemeError, lip_gap, mouth_motion
from deep_3drecon.face_model import load_face_model

FPS = 25
SENTENCES = ["mama", "papa", "beam", "fame", "move", "bomb"]


def phones_of(symbols, length=0.1, lead=0.3):
    """Phones of `length` s each between two pauses; vowels stressed."""
    out, time = [Phone("", 0.0, lead)], lead
    for symbol in symbols:
        out.append(Phone(symbol, time, time + length, 2 if symbol in visemes.VOWELS else 0))
        time += length
    return [*out, Phone("", time, time + lead)]


class Hummer:
    """Stands for `Speech`: a hum per phone, silence in the pauses."""

    def say(self, text, voice, seed=0):
        phones = phones_of([{"e": "i", "o": "ɑ", "u": "u"}.get(c, "æ" if c == "a" else c) for c in text], 0.09)
        n = round(phones[-1].end * 24000)
        rng, time = np.random.default_rng(seed), np.arange(n) / 24000
        sound = np.sin(2 * np.pi * 200 * voice.pitch * time) + 0.1 * rng.normal(size=n)
        return (0.1 * sound * (time > phones[0].end) * (time < phones[-1].start)).astype(np.float32), phones


def build(path, minutes=0.05, seed=0, **options):
    """A store of two speakers who hum."""
    return synthetic.build(
        path, synthetic.orders(SENTENCES, 2, seed, **options), minutes, speech=Hummer(), progress=False
    )


@pytest.fixture(scope="module")
def face():
    return load_face_model("open")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("synthetic") / "a.lmdb"
    build(path)
    return path


def opening(exp, face, identity=None):
    gap = lip_gap(face)
    rest = gap.rest + (0 if identity is None else gap.id @ identity)
    return rest + exp @ gap.exp


@pytest.mark.parametrize("symbol", "pbm")
@pytest.mark.parametrize("offset", [0.0, 0.01, 0.02, 0.03])
def test_lips_close_within_p_b_and_m(face, symbol, offset):
    """Wherever the phone falls between frames, some frame of it, 25 ms early at most, shows closed lips; the vowels show open ones."""
    phones = [p._replace(start=p.start + offset, end=p.end + offset) for p in phones_of(["ɑ", symbol, "ɑ"])]
    exp = mouth_motion(phones, 30, face)
    gap = opening(exp, face)
    time = np.arange(30) / FPS
    p = phones[2]
    within = (time >= p.start - visemes.ANTICIPATION) & (time <= p.end)
    assert gap[within].min() < 1.6
    assert within[gap[5:20].argmin() + 5] or gap[5:20].min() > gap[within].min() - 0.3
    assert gap[(time > phones[1].start) & (time < phones[3].end)].max() > 6


def test_lips_never_pass_through_each_other(face):
    rng = np.random.default_rng(0)
    symbols = list(visemes.VISEMES)[1:] + list(visemes.GLIDES)
    for _ in range(5):
        identity = rng.normal(0, 0.5, 80).astype(np.float32)
        phones = phones_of(rng.choice(symbols, 40), 0.06)
        style = MouthStyle(jaw=rng.uniform(0.5, 2), rounding=2.0, rest_closed=1.0)
        assert opening(mouth_motion(phones, 70, face, identity, style), face, identity).min() > 0.2


def test_closed_lips_need_the_identity(face):
    """A head whose lips rest far apart closes them all the same."""
    gap = lip_gap(face)
    identity = (2.0 * gap.id / np.sum(gap.id**2)).astype(np.float32)  # 2 mm wider than the mean head
    exp = mouth_motion(phones_of("ɑmɑ"), 25, face, identity)
    assert opening(exp, face, identity)[5:18].min() < 1.6
    assert opening(mouth_motion(phones_of("ɑmɑ"), 25, face), face, identity)[5:18].min() > 2


def test_tucked_lip_lies_between_open_and_closed(face):
    lowest = {s: opening(mouth_motion(phones_of(["ɑ", s, "ɑ"]), 25, face), face)[8:14].min() for s in "pft"}
    assert lowest["p"] < lowest["f"] < lowest["t"]


def test_rounding_comes_before_its_vowel(face):
    exp = mouth_motion(phones_of("stu"), 30, face)[:, face.index("mouthPucker")]
    spread = mouth_motion(phones_of("sti"), 30, face)[:, face.index("mouthPucker")]
    start = round(0.5 * FPS)  # the vowel's
    assert exp[start - 2] > 0.25 * exp.max() and spread.max() < 0.2 * exp.max()


def test_jaw_gain_is_the_ratio_of_spreads(face):
    phones = phones_of("tɑkætɛsʌ", 0.12)
    jaw = [mouth_motion(phones, 40, face, None, MouthStyle(jaw=g))[:, face.index("jawOpen")].std() for g in (1.0, 1.5)]
    assert jaw[1] / jaw[0] == pytest.approx(1.5, rel=0.05)


def test_asymmetry_moves_one_side(face):
    exp = mouth_motion(phones_of("sis"), 30, face, None, MouthStyle(asymmetry=0.8))
    left, right = (exp[:, face.index("mouthUpperUp" + side)].std() for side in ("Left", "Right"))
    assert left > 2 * right


def test_loudness_opens_the_jaw(face):
    phones = phones_of("ɑɑɑɑɑɑɑɑ", 0.2)
    loud = np.where(np.arange(110) < 55, 0.05, 0.1)[:, None]
    jaw = mouth_motion(phones, 55, face, None, MouthStyle(emphasis=0.3), loud)[:, face.index("jawOpen")]
    assert jaw[30:40].mean() > 1.2 * jaw[13:22].mean()


def test_unknown_phone_is_named(face):
    with pytest.raises(VisemeError, match="'χ' at 0.30 s"):
        mouth_motion([Phone("χ", 0.3, 0.4)], 20, face)


def test_phones_of_durations():
    """Stress goes to the vowel, short spaces to their neighbours, full stops stay pauses; all 65 ms earlier than hibari says."""
    phones = read_phones(list("bˈɑ s."), [12, 2, 1, 4, 2, 4, 6, 2])
    assert [(p.symbol, p.stress) for p in phones] == [("", 0), ("b", 0), ("ɑ", 2), ("s", 0), ("", 0)]
    late = made_speech.LATE_SECONDS
    assert [round(p.start + late, 4) for p in phones[1:]] == [0.3, 0.35, 0.5, 0.625]
    assert phones[-1].end + late == pytest.approx(0.825)
    assert all(a.end == b.start for a, b in zip(phones[:-1], phones[1:], strict=True))


def test_tract_moves_formants_and_not_time():
    """A peak at bin 100 goes to bin 80 for a tract factor of 0.8, in the same frames."""
    spectra = np.zeros((5, 601, 7), np.float32)
    spectra[:, 100, 3] = 1
    changed = made_speech.change_voice(*spectra, Voice(tract=0.8))
    assert np.unravel_index(changed[0].argmax(), changed[0].shape) == (80, 3)


def test_recording_keeps_length_level_and_time():
    sound = np.zeros(24000, np.float32)
    sound[12000:18000] = np.sin(np.arange(6000) / 10)
    wav = made_speech.record(sound, Recording(noise_db=-50, echo_db=-30))
    assert len(wav) == 16000 and np.sqrt(np.mean(wav**2)) == pytest.approx(0.06, rel=0.1)
    loud = np.flatnonzero(np.abs(wav) > 0.05)
    assert abs(loud[0] - 8000) < 40


def test_blinks_and_noise_have_the_rate_and_spread_asked_for():
    rng = np.random.default_rng(0)
    blinks = blink_curve(25 * 600, 0.4, rng)
    assert (np.diff((blinks > 0.9).astype(int)) == 1).sum() / 600 == pytest.approx(0.4, rel=0.2)
    assert smooth_noise(20000, 2, 0.5, rng).std(0) == pytest.approx([1, 1], abs=0.15)


def test_speaker_does_not_depend_on_the_others():
    assert draw_speaker(3, 5).facts() == draw_speaker(3, 5).facts() != draw_speaker(4, 5).facts()


def test_store_is_whole_and_trains(made):
    store = Store(made)
    meta = store.meta
    assert sorted(meta["synthetic"]["styles"]) == meta["speakers"] == ["synth_0", "synth_1"]
    assert all(meta["splits"][split] for split in ("train", "val", "test"))
    clip = meta["splits"]["train"][0]
    assert clip["phones"][-1][2] == pytest.approx(clip["n_frames"] / FPS)
    window = WindowDataset(made, "train", n_frames=16, context=2)[0]
    assert window["exp"].shape == (16, 52) and window["phonemes"].shape == (40, 40) and bool(window["valid"].all())
    assert compute(store)["n_clips"] == len(meta["splits"]["train"])
    track = store.track("train", 0)
    assert np.isfinite(track.landmarks).all() and 0 < track.landmarks.min() and track.landmarks.max() < 224


def test_made_and_built_stores_can_be_merged(made):
    """A build without any choice keeps the same settings."""
    assert Store(made).meta["settings"]["clip"] == {"face_model": "open", "frames": 0} == ClipSettings().facts()
    assert ClipSettings(tracks="stored").facts()["tracks"] == "stored"


def test_landmarks_are_those_of_the_moved_head(made, face):
    """Shortcut over landmark bases = landmarks of the whole head, irises with the turned eyeballs."""
    import torch

    from deep_3drecon import camera

    track = Store(made).track("train", 0)
    parts = {name: torch.from_numpy(np.ascontiguousarray(value[10])) for name, value in track.parts().items()}
    whole = camera.project(
        camera.pose(face.landmarks(face.vertices(parts["id"], parts["exp"])), parts["angle"], parts["trans"])
    )
    assert np.abs(whole.numpy() - track.landmarks[10]).max() < 0.01


def test_sentences_stay_in_their_split(made):
    of_split = synthetic.split_sentences(SENTENCES, 0)
    assert sorted(sum(of_split.values(), [])) == sorted(SENTENCES)
    for split, clips in Store(made).meta["splits"].items():
        assert {word for clip in clips for word in clip["text"].split()} <= set(of_split[split])


def test_seed_decides_every_byte(made, tmp_path):
    same, other = build(tmp_path / "b.lmdb"), build(tmp_path / "c.lmdb", seed=1)
    first = Store(made)
    assert same == first.meta != other
    for record in ("coeff", "audio", "phonemes"):
        assert Store(tmp_path / "b.lmdb").bytes("train", record, 0) == first.bytes("train", record, 0)
        assert Store(tmp_path / "c.lmdb").bytes("train", record, 0) != first.bytes("train", record, 0)


def test_build_goes_on_and_refuses_another_seed(made, tmp_path):
    path = tmp_path / "d.lmdb"
    build(path, 0.001)
    assert build(path) == Store(made).meta
    for other in ({"seed": 1}, {"emotions": ("sad",)}, {"size": 64}):
        with pytest.raises(StoreError, match="another seed, size, emotions"):
            build(path, **other)


def test_missing_speech_package_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "hibari", None)
    with pytest.raises(made_speech.SpeechError, match="pip install hibari-tts"):
        made_speech.Speech()


def test_every_speaker_comes_into_the_test_soon_and_as_often_as_asked():
    clips = list(itertools.islice(synthetic.plan(SENTENCES * 8, 20, 0, test_share=0.15), 20 * 8))
    assert {speaker for _, split, speaker, _ in clips if split == "test"} == set(range(20))
    many = list(itertools.islice(synthetic.plan(SENTENCES * 8, 3, 0, test_share=0.15), 3000))
    assert np.mean([split == "test" for _, split, _, _ in many]) == pytest.approx(0.15, abs=0.01)
    assert np.mean([split == "val" for _, split, _, _ in many]) == pytest.approx(synthetic.VAL_SHARE, abs=0.01)
