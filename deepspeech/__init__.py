"""Sound as numbers: 16 kHz mono in, features at 50 Hz out, all on the time axis of `timing.py`.

wav = load_audio("speech.mp3")          # (N,) float32, 16 kHz
rows = features(wav)                    # {"phonemes": (A, 40), "mel": (A, 40), "energy": (A, 1)}
n_frames = n_motion_frames(len(wav))    # T = A / 2 motion frames at 25 fps; frame t goes with rows 2 t and 2 t + 1

What the originals of the five methods hear: `mfcc_windows` (headpose), `wav2lip_windows` (Style2Talker), `paper_energy` and
`get_prob(wav, model=...)` (style_avatar), `encoders` (wav2vec 2.0, HuBERT, WavLM, Whisper: GSmoothFace, TalkingStyle).
`encoders` and `deepspeech_model` need torch and are imported by whoever wants them.
"""

from .audio_io import AudioError, load_audio
from .features import FeatureStream, features
from .mfcc import mfcc, mfcc_rows, mfcc_windows
from .phones import PhoneSpan, phone_spans
from .posteriors import BLANK, PHONEMES, get_prob, smooth_prob
from .spectral import energy, mel, paper_energy
from .timing import FEATURE_HZ, FILES, LIVE, MOTION_FPS, SAMPLE_RATE, n_feature_rows, n_motion_frames
from .wav2lip_mel import wav2lip_mel, wav2lip_windows
from .weights import WeightsError

__all__ = [
    "AudioError",
    "BLANK",
    "FEATURE_HZ",
    "FILES",
    "FeatureStream",
    "LIVE",
    "MOTION_FPS",
    "PHONEMES",
    "PhoneSpan",
    "SAMPLE_RATE",
    "WeightsError",
    "energy",
    "features",
    "get_prob",
    "load_audio",
    "mel",
    "mfcc",
    "mfcc_rows",
    "mfcc_windows",
    "n_feature_rows",
    "n_motion_frames",
    "paper_energy",
    "phone_spans",
    "smooth_prob",
    "wav2lip_mel",
    "wav2lip_windows",
]
