"""Verdicts, rule by rule; repairs of the clock; what the report tells."""

import json
from dataclasses import replace

import numpy as np
import pytest

from data_process.examine import softened, start_past_copies
from data_process.ledger import read_ledger, rewrite, summary
from data_process.quality import Quality, QualityRules, Verdict, judge
from data_process.segments import Rules, Segment, without
from data_process.sound_quality import SoundFit

FIT = SoundFit(offset_frames=0.2, confidence=0.98, score=0.45, length_fps=25.0)
GOOD = Quality(fps=25.0, n_pictures=100, n_frames=100, sound=FIT, detail_px=100, face_px=110, shake=0.1)


def with_sound(**changes):
    return replace(GOOD, sound=replace(FIT, **changes))


def only(verdict):
    (reason,) = verdict.reasons
    return reason


def test_a_good_video_and_one_without_sound_are_accepted():
    assert judge(GOOD) == Verdict("accept", [], {}) == judge(replace(GOOD, sound=None))


@pytest.mark.parametrize(
    ("quality", "kind", "words"),
    [
        (replace(GOOD, rivals=0.5), "second_face", "several faces in 50%"),
        (replace(GOOD, detail_px=30.0), "blur", "110 px wide but shows the detail of one of 30 px"),
        (replace(GOOD, shake=1.2), "crop_jitter", "jumps about by 1.2 %"),
        (replace(GOOD, repeats=(8, 20, 41, 60)), "doubled_frames", "4% of the pictures repeat the one before, the first at picture 8"),
        (with_sound(longer_frames=9.0, drift_frames=7.0, drift_gain=0.12, drift_score=0.3), "dropped_frames", "about 9 frames are missing"),
        (with_sound(longer_frames=-9.0, drift_frames=-7.0, drift_gain=0.12, drift_score=0.3), "wrong_fps", "drift apart: the picture is 9"),
    ],
)  # fmt: skip
def test_what_cannot_be_repaired_is_rejected(quality, kind, words):
    verdict = judge(quality)
    assert verdict.status == "reject" and only(verdict).kind == kind and words in only(verdict).text


@pytest.mark.parametrize(
    "quality",
    [
        replace(GOOD, detail_px=30.0, face_px=40.0),  # a small face, but a sharp one
        replace(GOOD, detail_px=90.0, face_px=260.0),  # a large face out of focus still has detail enough
        replace(GOOD, repeats=(8, 20)),
        with_sound(longer_frames=9.0, drift_frames=0.0, drift_gain=0.0),  # sound that just goes on
        with_sound(
            longer_frames=9.0, drift_frames=7.0, drift_gain=0.12, drift_score=0.05
        ),  # noise fits better everywhere
        with_sound(
            longer_frames=9.0, drift_frames=30.0, drift_gain=0.12, drift_score=0.3
        ),  # a drift that the length does not explain
        with_sound(offset_frames=7.0, confidence=0.2),
        with_sound(offset_frames=2.0, confidence=0.99),
        with_sound(silences=((40, 85, False),)),  # somebody who listens
        with_sound(length_fps=24.0, longer_frames=4.5, rate_offset=-2.0, rate_score=0.3, rate_confidence=0.6),
    ],
)
def test_what_is_no_defect_is_accepted(quality):
    assert judge(quality).status == "accept" and judge(quality).reasons == []


def test_sure_offsets_are_repaired_and_others_noted():
    verdict = judge(with_sound(offset_frames=-4.0, confidence=0.97))
    assert verdict.status == "repair" and verdict.repairs == {"shift_frames": -4.0}
    assert "4.0 frames earlier than the mouth" in only(verdict).text
    verdict = judge(with_sound(offset_frames=4.0, confidence=0.9))
    assert verdict.status == "accept" and verdict.repairs == {} and only(verdict).action == "note"


def test_a_wrong_rate_is_named_with_the_right_one():
    fit = {"longer_frames": 20.0, "length_fps": 25.0, "rate_score": 0.5, "rate_confidence": 0.9, "rate_offset": 0.1}
    quality = replace(with_sound(**fit, offset_frames=9.0, confidence=0.4, score=0.2), fps=30.0)
    verdict = judge(quality)
    assert verdict.status == "repair" and verdict.repairs == {"fps": 25.0} and "claims 30 fps" in only(verdict).text
    # lost pictures make sound and picture differ in length too, but no rate fits
    lost = replace(
        quality, sound=replace(quality.sound, rate_confidence=0.1, drift_frames=15.0, drift_gain=0.12, drift_score=0.3)
    )
    assert only(judge(lost)).kind == "dropped_frames"


def test_silence_is_left_out_where_the_lips_talk_and_at_the_ends():
    verdict = judge(with_sound(silences=((0, 40, False), (60, 99, True))))
    assert verdict.status == "repair" and verdict.repairs == {"leave_out": [[0, 40], [60, 99]]}
    assert "no speech from 2.40 s to 3.96 s, though the lips move" in verdict.reasons[1].text


def test_copies_of_a_conversion_are_read_past():
    quality = replace(GOOD, fps=30.0, repeats=tuple(range(5, 100, 6)), repeat_period=6)
    verdict = judge(quality)
    assert verdict.repairs == {"skip_copies": 6} and "25 fps stored as 30" in only(verdict).text
    assert quality.true_fps == 25


def test_softening_turns_verdicts_into_notes():
    verdict = judge(replace(with_sound(offset_frames=5.0), shake=2.0, cuts=(30,)))
    assert verdict.status == "reject" and verdict.repairs
    soft = softened(verdict)
    assert soft.status == "repair" and soft.repairs == {}, "cuts are cut all the same"
    assert {r.kind: r.action for r in soft.reasons} == {"crop_jitter": "note", "audio_shift": "note", "cut": "repair"}
    assert [r.kind for r in softened(verdict, (), drop=("audio_shift",)).reasons] == ["crop_jitter", "cut"]
    assert softened(verdict, ("audio_shift",)).status == "reject"


def test_the_start_is_chosen_so_that_no_copy_is_read():
    for phase in range(6):
        times = np.arange(300) / 30
        copies = np.arange(phase or 6, 300, 6)
        start = start_past_copies(times, copies)
        wanted = np.arange(start, times[-1], 1 / 25)
        chosen = np.abs(times[:, None] - wanted).argmin(0)
        assert 0 <= start < 1 / 25 and np.isin(chosen, copies).sum() == 0 or len(set(chosen)) == len(chosen)
        real = np.cumsum(~np.isin(np.arange(300), copies))[chosen]
        assert (np.diff(real) == 0).sum() <= 1


def test_stretches_are_left_out_of_segments():
    points = np.zeros((100, 478, 2))
    points[:, 0, 0] = 200.0  # 200 px wide
    rules, valid = Rules(min_s=1.0), np.ones(100, bool)
    parts = without(Segment(10, 90), [[0, 20], [50, 60]], points, valid, rules)
    assert [(p.start, p.stop, p.reason) for p in parts] == [
        (10, 20, "no speech"), (20, 50, ""), (50, 60, "no speech"), (60, 90, "")
    ]  # fmt: skip
    assert without(Segment(10, 90), [[95, 99]], points, valid, rules) == [Segment(10, 90)]
    assert "too short" in without(Segment(10, 90), [[20, 90]], points, valid, rules)[0].reason


def entry(name, quality=None, **more):
    base = {"name": name, "key": "k", "status": "accepted", "reason": "", "notes": [], "segments": [], "clips": []}
    return base | ({"quality": quality.as_dict()} if quality else {}) | more


def test_lines_of_the_ledger_hold_the_measures_and_old_lines_are_still_read(tmp_path):
    late = with_sound(offset_frames=4.123456, silences=((0, 40, True),))
    blurred = replace(GOOD, detail_px=41.0, repeats=tuple(range(200)))
    ledger = {e["name"]: e for e in (entry("late", late), entry("blurred", blurred, warnings=["soft"]), entry("old"))}
    rewrite(tmp_path, ledger)
    again = read_ledger(tmp_path)
    assert again == json.loads(json.dumps(ledger))
    assert again["late"]["quality"]["sound_offset_frames"] == 4.1235
    assert again["blurred"]["quality"]["n_repeats"] == 200 and len(again["blurred"]["quality"]["repeats"]) == 50
    text = summary(again)
    assert "Worst of 2 measured videos" in text and "offset of the sound: late 4.123 frames" in text
    assert "least detail of the face: blurred 41 px" in text and "blurred: soft" in text
    assert "Worst" not in summary({"old": entry("old")})


def test_rules_can_be_given():
    assert judge(replace(GOOD, shake=0.5), QualityRules(max_shake=0.4)).status == "reject"
