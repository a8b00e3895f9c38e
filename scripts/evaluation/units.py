"""Every metric of metrics.jsonl: what it is called, its unit, which way is better, what it says.

better: "higher", "lower", "0", "1", or "real": as near as possible to the value of the row `real`, which is then always printed beside
it. level: "motion" is measured on coefficients, "video" on the frames of the pinned encoding, seen again by the landmarker.
"""

from dataclasses import dataclass

from models.judges import JUDGES


@dataclass(frozen=True)
class Metric:
    """One line of a table. main: shown in the summary at the top."""

    label: str
    unit: str
    better: str
    level: str
    main: bool = False
    meaning: str = ""


METRICS = {
    "lip_correlation": Metric(
        "lip opening, correlation", "", "higher", "motion", main=True,
        meaning="Pearson r of generated and true inner-lip opening over time: right movement at the right time, whatever its size"),
    "lip_concordance": Metric(
        "lip opening, concordance", "", "higher", "motion",
        meaning="Lin's coefficient: as the correlation, but size and resting place count as well"),
    "opening_ratio": Metric(
        "lip opening, spread", "generated / true", "1", "motion", main=True,
        meaning="how lively the lips are: below 1 they mumble, above 1 they shout"),
    "mod_mm": Metric(
        "lip opening, distance (MOD)", "mm", "lower", "motion",
        meaning="mean absolute difference of the inner-lip openings"),
    "opening_bias_mm": Metric(
        "lip opening, bias", "mm", "0", "motion",
        meaning="mean generated less mean true opening: above 0 the mouth hangs open"),
    "dtw_mm": Metric(
        "lip opening, warped distance", "mm", "lower", "motion",
        meaning="the distance left when time may bend by 0.2 s: what is missing rather than late"),
    "width_correlation": Metric(
        "mouth width, correlation", "", "higher", "motion",
        meaning="Pearson r of the distance of the mouth corners"),
    "width_ratio": Metric(
        "mouth width, spread", "generated / true", "1", "motion",
        meaning="how far the corners move, against the truth"),
    "best_lag": Metric(
        "lag of the lips", "frames of 1/25 s", "0", "motion",
        meaning="shift at which the generated opening fits the true one best; above 0 it comes late"),
    "lve_mm": Metric(
        "lip vertex error (LVE)", "mm", "lower", "motion", main=True,
        meaning="mean over frames of the largest distance of a lip vertex, head pose removed"),
    "lve_mm2": Metric(
        "lip vertex error, squared", "mm²", "lower", "motion",
        meaning="the same squared, as FaceFormer's and CodeTalker's code has it (1e-6 of their m²)"),
    "mve_mm": Metric(
        "face vertex error (MVE)", "mm", "lower", "motion",
        meaning="mean distance over frames and all face vertices"),
    "velocity_mm_s": Metric(
        "lip velocity error", "mm/s", "lower", "motion",
        meaning="mean difference of the lip vertices' velocities"),
    "jitter_ratio": Metric(
        "lip jerk", "generated / true", "1", "motion",
        meaning="RMS third difference of the lips: above 1 shakier than the truth"),
    "fdd_mm": Metric(
        "upper-face dynamics (FDD), absolute", "mm", "lower", "motion",
        meaning="by how much the spread of each vertex above the nose differs from the truth"),
    "fdd_signed_mm": Metric(
        "upper-face dynamics (FDD), signed", "mm", "0", "motion",
        meaning="true less generated: above 0 brows and lids move too little; errors may cancel"),
    "closure_bilabial": Metric(
        "closures made on p b m", "share", "real", "motion", main=True,
        meaning="lips that shut, below 15 % of the speaker's range, where the sound asks for it"),
    "closure_labiodental": Metric(
        "closures made on f v", "share", "real", "motion",
        meaning="lower lip that reaches the teeth, below 30 % of the range"),
    "closure_elsewhere": Metric(
        "closures elsewhere", "share", "real", "motion",
        meaning="the same test inside open sounds: how often a mouth shuts by chance"),
    "silence_mm": Metric(
        "chatter in silence", "mm", "real", "motion",
        meaning="how much the lips move while nothing is said for 0.3 s or more"),
    "loudness_distance": Metric(
        "opening against loudness", "", "real", "motion",
        meaning="THEval's lip-sync: mean difference of opening and loudness, each scaled to 0..1"),
    "pose_hs": Metric(
        "head pose similarity (HS)", "", "higher", "motion",
        meaning="1 less the Wasserstein distance of the angles' distributions over 60°, mean of the axes"),
    "pose_deg": Metric(
        "head angles, distance of distributions", "°", "lower", "motion", main=True,
        meaning="Wasserstein distance about each motion's mean, mean of the axes"),
    "pose_speed": Metric(
        "head speed, distance of distributions", "°/s", "lower", "motion",
        meaning="the same of angular speeds"),
    "pose_ratio": Metric(
        "head motion, spread", "generated / true", "1", "motion",
        meaning="standard deviation of the angles, mean of the axes"),
    "pose_spectrum": Metric(
        "head motion, spectrum", "log10", "lower", "motion",
        meaning="mean difference of the power spectra, 0.2 to 6 Hz; 1 is a factor of ten; clips of 4 s or more"),
    "beat_score": Metric(
        "beats of the head on beats of speech", "", "real", "motion",
        meaning="1 when every rest or turn of the head falls on an onset of the voice, σ 0.1 s"),
    "blinks_per_minute": Metric(
        "blinks", "1/min", "real", "motion",
        meaning="how often the lids shut"),
    "blink_duration_s": Metric(
        "blink duration", "s", "real", "motion",
        meaning="median time from open to open"),
    "blink_pauses_s": Metric(
        "pauses between blinks, distance", "s", "lower", "motion",
        meaning="Wasserstein distance of the times from blink to blink, all clips of the row together"),
    "blink_lengths_s": Metric(
        "blink durations, distance", "s", "lower", "motion",
        meaning="the same of how long they take"),
    "style_r1": Metric(
        "style retrieval R@1", "share", "higher", "motion", main=True,
        meaning="the style measured on this motion lies nearest to the speaker's own among all speakers' styles"),
    "style_r5": Metric(
        "style retrieval R@5", "share", "higher", "motion",
        meaning="the same, among the nearest five"),
    "style_r1_joined": Metric(
        "style retrieval R@1, clips joined to 10 s", "share", "higher", "motion",
        meaning="the same for clips of a speaker taken together until they last 10 s: a style needs time to show"),
    "style_distance": Metric(
        "distance from the wanted style", "corpus deviations", "lower", "motion",
        meaning="RMS difference of the measured style from the one that was asked for"),
    "frechet_motion": Metric(
        "Fréchet distance of motion", "corpus deviations²", "lower", "motion", main=True,
        meaning="all frames of the row against the truth's, z-scored expressions; one value a set; `real`: half against half"),
    "frechet_lips": Metric(
        "Fréchet distance of lip moves", "truth's deviations²", "lower", "motion",
        meaning="windows of 0.4 s of lip opening and width against the truth's: sees pace as well as shape; `real`: half against half"),
    "swap_gain": Metric(
        "condition swap, way gone", "share", "1", "motion",
        meaning="same sound, other style: share of the way from the own to the other style that the motion goes"),
    "swap_nearest": Metric(
        "condition swap, nearer to the wanted style", "share", "higher", "motion",
        meaning="clips whose measured style lies nearer to the style asked for than to the other"),
    "strength_rank": Metric(
        "style strength, rank correlation", "", "higher", "motion",
        meaning="Spearman's of the strength asked for (0 to 1.5) and how far the motion goes along the way from the mean to the own style"),
    "strength_gain": Metric(
        "style strength, gain", "", "1", "motion",
        meaning="how much of the strength asked for arrives: slope of the same"),
    "blend_bend": Metric(
        "blend of two styles, bend", "", "lower", "motion",
        meaning="second differences over steps of the measured style in five even steps between two people; 0 is straight"),
    "blend_progress": Metric(
        "blend of two styles, steps that lead on", "share", "higher", "motion",
        meaning="steps of the same that go towards the other person"),
    "content_share": Metric(
        "style due to the sound", "share of variance", "lower", "motion",
        meaning="of measured styles of some sounds in some people's styles: what the sound explains"),
    "style_share": Metric(
        "style due to the style asked for", "share of variance", "higher", "motion",
        meaning="of the same: what the style asked for explains"),
    "seed_head_deg": Metric(
        "what another seed changes, head", "°", "higher", "motion",
        meaning="RMS difference of the head's angles between seeds; 0 would be one motion for ever"),
    "seed_lips_mm": Metric(
        "what another seed changes, lips", "mm", "lower", "motion",
        meaning="the same of the lip opening, which the sound should settle"),
    "video_opening_correlation": Metric(
        "lip opening seen in the video, correlation", "", "higher", "video", main=True,
        meaning="Pearson r of the landmarker's lip opening in this video and in the real one"),
    "video_opening_ratio": Metric(
        "lip opening seen in the video, spread", "row / real", "1", "video",
        meaning="how lively the lips look"),
    "lmd": Metric(
        "landmark distance (F-LMD)", "eye distances", "lower", "video",
        meaning="mean distance of the 68 landmarks in the face crop"),
    "lmd_mouth": Metric(
        "mouth landmark distance (M-LMD)", "eye distances", "lower", "video",
        meaning="the 20 mouth landmarks"),
    "lmd_mouth_px": Metric(
        "mouth landmark distance", "px of the 224 px crop", "lower", "video",
        meaning="the same in pixels"),
    "lmd_shape": Metric(
        "mouth shape distance", "eye distances", "lower", "video", main=True,
        meaning="the same after moving each mouth to its own centre: shape without place"),
    "psnr_face": Metric(
        "PSNR, face", "dB", "higher", "video",
        meaning="224 px face crop against the real video"),
    "ssim_face": Metric(
        "SSIM, face", "", "higher", "video", main=True,
        meaning="structural similarity of the face crop"),
    "ms_ssim_face": Metric(
        "MS-SSIM, face", "", "higher", "video",
        meaning="the same over five scales"),
    "colour_face": Metric(
        "colour, face", "ΔE 1976", "lower", "video",
        meaning="distance of the mean colours of the face crops, a cast or a wrong exposure; 2.3 is just seen"),
    "psnr_mouth": Metric(
        "PSNR, mouth", "dB", "higher", "video",
        meaning="96 x 72 px around the mouth corners, so that head motion does not count"),
    "ssim_mouth": Metric(
        "SSIM, mouth", "", "higher", "video", main=True,
        meaning="structural similarity of the mouth crop"),
    "sharpness": Metric(
        "sharpness", "row / real", "1", "video",
        meaning="energy of fine detail in the face crop, against the real video"),
    "cpbd": Metric(
        "CPBD", "", "real", "video",
        meaning="share of the face crop's edges that look sharp (Narvekar and Karam 2011), by OpenCV's edges"),
    "temporal_face": Metric(
        "change from frame to frame, face", "grey levels", "lower", "video",
        meaning="mean error of the change of each pixel: what stands wrong but still costs nothing, what moves wrongly does"),
    "flicker": Metric(
        "flicker", "row / real", "1", "video",
        meaning="second difference over time where the picture should stand still, against the real video"),
    "sync_offset": Metric(
        "audio offset", "frames of 1/25 s", "real", "video", main=True,
        meaning="where our probe finds the sound: above 0 it comes later than the mouth"),
    "sync_confidence": Metric(
        "audio offset, confidence", "", "real", "video", main=True,
        meaning="how sure the probe is that sound and lips belong together; above the real video is not better than real"),
    "sync_score": Metric(
        "audio-visual fit", "", "real", "video",
        meaning="height of the probe's peak"),
    "video_blinks_per_minute": Metric(
        "blinks seen in the video", "1/min", "real", "video",
        meaning="lids that the landmarker sees shut"),
}  # fmt: skip
VISEMES, SET_CLIP, JUDGE = "viseme_mm", "(all clips)", "judge_"


def judge_metric(name):
    """Metric of a line's `judge_<name>`."""
    judge = JUDGES[name]()
    of = "set of frames" if judge.kind == "set" else "face crop"
    return Metric(
        f"{judge.name or name} (network)",
        judge.unit,
        judge.better,
        "video",
        f"distance of the {of} from the real one by {judge.name or name}",
    )
