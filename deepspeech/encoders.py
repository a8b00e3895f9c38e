"""Speech encoders of transformers as features on our time axis: wav2vec 2.0, HuBERT, WavLM and Whisper's encoder.

    encoder = Encoder.load("models/hubert-base-ls960", layer=9)     # a local folder; nothing is fetched unless asked for
    rows = encoder(wav)                                             # (A, encoder.dims) float32, row k at k/50 s
    Encoder.load(folder, rate_hz=25)(wav)                           # (A / 2, encoder.dims), row k at k/25 s

The weights are the user's to fetch, for example `hf download facebook/hubert-base-ls960 --local-dir models/hubert-base-ls960`.

Place in time. Frame j of wav2vec 2.0, HuBERT and WavLM sees samples 320 j .. 320 j + 399 of what the network is given
(25 ms every 20 ms): its centre lies 12.5 ms after j/50 s. Here each window of sound starts half such a field early, so
that frame j is centred on row j, exactly as `spectral.mel` is. Whisper's mel columns are centred on their times (100 Hz)
and its second convolution keeps every other one: frame j is centred on j/50 s as it is. Encoders of another step, and
other rates than 50 Hz, are interpolated linearly between the frames' centres: 25 Hz takes every other frame as it is.

Windows. Attention and group normalisation reach over all that is heard at once, so a network always runs on the same
windows of absolute time: a block of 16 s (Whisper: 26 s) with CONTEXT_ROWS more on each side, cut off at the start and
the end of the sound. Whisper hears zeros after that, up to its 30 s. Memory is bounded by one window: for the base sizes
about half a gigabyte.
"""

from pathlib import Path

import numpy as np
import torch

from .audio_io import check_sound
from .timing import FEATURE_HZ, MOTION_FPS, SAMPLE_RATE, SAMPLES_PER_ROW, n_feature_rows, sound_between
from .weights import WeightsError, hash_weights

CONTEXT_ROWS = 2 * FEATURE_HZ
BLOCK_ROWS = 16 * FEATURE_HZ
# model_type of config.json -> class of transformers
KINDS = {"wav2vec2": "Wav2Vec2Model", "hubert": "HubertModel", "wavlm": "WavLMModel", "whisper": "WhisperModel"}
EXAMPLES = "facebook/wav2vec2-base-960h, facebook/hubert-base-ls960, microsoft/wavlm-base-plus, openai/whisper-base"
# What published checkpoints hold beside the encoder: parts for pre-training, transcription, generation.
OTHER_PARTS = (
    *("lm_head", "quantizer", "project_q", "project_hid", "proj_out", "projector", "classifier", "decoder", "label_"),
    *("masked_spec_embed", "final_proj", "mask_emb"),
)


class Encoder:
    """One hidden layer of a speech encoder. Made by `load`; then encoder(wav) -> (rows, dims) float32.

    kind: key of KINDS. source: name of the folder or model, without the way to it. layer: 0 (what enters the transformer)
    to n_layers (its output `last_hidden_state`, after the final normalisation where the model has one; hidden_states[-1]
    of transformers 5 is before it, of transformers 4 after it). rate_hz: rows a second, a multiple of the motion's.
    native_hz: frames a second before the alignment. centre_s: what the alignment corrects: seconds from the nominal time of
    a native frame to its centre. identity: hash of the encoder's weights. normalised: sounds are brought to mean 0 and
    deviation 1 first, as the model's preprocessor says; mean and deviation are those of the whole sound.
    """

    def __init__(self, model, extractor, kind, layer, source, device="cpu", rate_hz=FEATURE_HZ):
        self.kind, self.source, self.rate_hz = kind, source, int(rate_hz)
        if rate_hz <= 0 or rate_hz % MOTION_FPS or SAMPLE_RATE % rate_hz:
            raise WeightsError(f"{source}: {rate_hz} rows a second asked for, {MOTION_FPS}, 50 or 100 can be given")
        self.extractor, self.device = extractor, device
        core = model.encoder
        self.n_layers = len(core.layers)
        self.layer = self.n_layers if layer is None else int(layer)
        if not 0 <= self.layer <= self.n_layers:
            raise WeightsError(f"{source}: layer {layer}; 0 to {self.n_layers} are there")
        self.is_whisper = kind == "whisper"
        network = core if self.is_whisper else model
        self.dims = int(model.config.hidden_size)
        self.identity = hash_weights(network.state_dict())
        self._set_timing(model.config)
        self.normalised = bool(getattr(extractor, "do_normalize", False)) and not self.is_whisper
        self._seen = None
        self._watch(core)
        self._network = network.to(device).eval().requires_grad_(False)

    @classmethod
    def load(cls, source, layer=None, allow_download=False, device="cpu", rate_hz=FEATURE_HZ):
        """Encoder from a local folder, or from a hub name: out of the local cache, or fetched with allow_download."""
        import transformers  # imported late: it takes seconds

        local = {"local_files_only": not allow_download}
        try:
            config = transformers.AutoConfig.from_pretrained(source, **local)
            kind = config.model_type
            if kind not in KINDS:
                raise WeightsError(f"{source}: a model of type {kind}; these can be used: {', '.join(KINDS)}")
            extractor = transformers.AutoFeatureExtractor.from_pretrained(source, **local)
            model, report = getattr(transformers, KINDS[kind]).from_pretrained(
                source, output_loading_info=True, dtype=torch.float32, **local
            )
        except WeightsError:
            raise
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise WeightsError(_advice(source, allow_download, error)) from error
        _check_loading(source, report)
        return cls(model, extractor, kind, layer, Path(str(source)).name, device, rate_hz)

    @property
    def about(self) -> dict:
        """What made the features, for the store's `meta`."""
        return {
            "kind": self.kind, "source": self.source, "layer": self.layer, "layers": self.n_layers, "dims": self.dims,
            "identity": self.identity, "native_hz": self.native_hz, "centre_s": self.centre_s,
            "normalised": self.normalised, "block_s": self.block_rows / FEATURE_HZ,
            "context_s": CONTEXT_ROWS / FEATURE_HZ,
        }  # fmt: skip

    @torch.inference_mode()
    def __call__(self, wav: np.ndarray) -> np.ndarray:
        """16 kHz sound (N,) float32 -> (rate_hz T / 25, dims) float32 for T motion frames, row k centred on k / rate_hz s."""
        wav = check_sound(wav)
        n_rows = n_feature_rows(len(wav))
        if self.normalised:
            wav = _normalise(wav)
        blocks = range(-(-n_rows // self.block_rows))
        return np.concatenate([self._block(wav, index, n_rows) for index in blocks])

    def _set_timing(self, config):
        """Step and field of a frame in samples, and rows of a block."""
        if self.is_whisper:
            positions, mels = config.max_source_positions, self.extractor.nb_max_frames
            if mels != 2 * positions or self.extractor.hop_length * 2 != SAMPLES_PER_ROW:
                raise WeightsError(
                    f"{self.source}: the preprocessor makes {mels} columns every {self.extractor.hop_length} samples, "
                    f"{2 * positions} every {SAMPLES_PER_ROW // 2} are needed: take both from the same model"
                )
            self.step, self.field, self.block_rows = SAMPLES_PER_ROW, 0, positions - 2 * CONTEXT_ROWS
        else:
            self.step, self.field, self.block_rows = 1, 1, BLOCK_ROWS
            for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
                self.field += (kernel - 1) * self.step
                self.step *= stride
        if self.extractor.sampling_rate != SAMPLE_RATE or self.block_rows < 1:
            raise WeightsError(f"{self.source}: hears {self.extractor.sampling_rate} Hz, {SAMPLE_RATE} are needed")
        self.native_hz, self.centre_s = SAMPLE_RATE / self.step, self.field / 2 / SAMPLE_RATE

    def _watch(self, core):
        """Keep what the wanted layer gives, and drop the layers after it: nobody would use what they compute."""

        def keep(module, arguments, result):
            self._seen = (
                result[0] if isinstance(result, (tuple, list)) else getattr(result, "last_hidden_state", result)
            )

        if self.layer == self.n_layers:
            core.register_forward_hook(keep)
            return
        core.layers = core.layers[: max(self.layer, 1)]
        if self.layer == 0:
            core.layers[0].register_forward_pre_hook(lambda module, arguments: keep(module, (), arguments))
        else:
            core.layers[self.layer - 1].register_forward_hook(keep)

    def _block(self, wav, index, n_rows):
        """Rows of one block of the grid, computed from its window."""
        first, end = index * self.block_rows, min((index + 1) * self.block_rows, n_rows)
        heard_from, heard_to = max(first - CONTEXT_ROWS, 0), min(end + CONTEXT_ROWS, n_rows)
        n = heard_to - heard_from
        start = heard_from * SAMPLES_PER_ROW - self.field // 2
        if self.is_whisper:
            n_samples = n * SAMPLES_PER_ROW
        else:  # as many as the frames need whose centres reach the last row
            n_samples = -(-(n - 1) * SAMPLES_PER_ROW // self.step) * self.step + self.field
        frames = self._frames(sound_between(wav, 0, start, start + n_samples))
        return self._rows(frames, first - heard_from, end - heard_from)

    def _frames(self, samples):
        """(n_samples,) -> (frames, dims) of the wanted layer."""
        if self.is_whisper:
            values = self.extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt")["input_features"]
        else:
            values = torch.from_numpy(samples)[None]
        self._network(values.to(self.device))
        seen, self._seen = self._seen, None
        return seen[0].float().cpu().numpy()

    def _rows(self, frames, first, end):
        """Frames of any step -> rows of the wanted rate from 50 Hz row `first` to `end`; row 0 is at the centre of frame 0.

        After the centre of the last frame that frame holds: which frames are computed does not depend on the rate.
        """
        if self.step == SAMPLES_PER_ROW and self.rate_hz == FEATURE_HZ:
            return frames[first:end]
        n = (end - first) * self.rate_hz // FEATURE_HZ
        place = (first * SAMPLES_PER_ROW + np.arange(n) * (SAMPLE_RATE // self.rate_hz)) / self.step
        before = np.minimum(place.astype(int), len(frames) - 2)
        weight = np.minimum(place - before, 1)[:, None].astype(np.float32)
        return (1 - weight) * frames[before] + weight * frames[before + 1]


def _normalise(wav):
    """As the preprocessors of transformers do it: mean 0, deviation 1 with 1e-7 added to the variance."""
    return ((wav - wav.mean(dtype=np.float64)) / np.sqrt(wav.var(dtype=np.float64) + 1e-7)).astype(np.float32)


def _check_loading(source, report):
    """Every weight of the encoder came, and nothing that belongs to no known part of a published checkpoint."""
    missing = [name for name in report["missing_keys"] if not _is_other_part(name)]
    strange = [name for name in report["unexpected_keys"] if not _is_other_part(name)]
    wrong = [str(entry[0] if isinstance(entry, (tuple, list)) else entry) for entry in report["mismatched_keys"]]
    kinds = (("missing", missing), ("superfluous", strange), ("of another shape", wrong))
    faults = [f"{what}: {', '.join(sorted(names))}" for what, names in kinds if names]
    if faults:
        raise WeightsError(f"{source}: not the weights that its config.json describes: {'; '.join(faults)}")


def _is_other_part(name):
    return any(part.startswith(OTHER_PARTS) for part in name.split("."))


def _advice(source, allow_download, error):
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if Path(str(source)).is_dir():
        needed = (
            "config.json, preprocessor_config.json and model.safetensors or pytorch_model.bin are needed in the folder"
        )
        return (
            f"{source}: cannot be loaded ({first}); {needed}: fetch it anew with hf download NAME --local-dir {source}"
        )
    where = "allow the download" if not allow_download else "check the name and the connection"
    return (
        f"{source}: no such folder, and not a model in the local cache ({first}); fetch one with "
        f"hf download NAME --local-dir FOLDER and give the folder, or {where}. Models: {EXAMPLES}"
    )
