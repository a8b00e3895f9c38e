"""Checkpoints of TalkingStyle's authors: a `.pth` of their network, speech encoder included, ready to speak.

    method = ReleasedPaper.load("best_model.pth", subjects=("FaceTalk_170728_03272_TA", ...))
    for piece in method.stream({"sound": wav}, subjects[0], template, fps=30): ...

Sizes are read off the weights. Only tensors are unpickled. The encoder is heard in one piece, as released: memory grows with the
square of the sound's length, some minutes are the end.
"""

import pickle

import numpy as np
import torch
from torch import nn

from models.talking_style_codes import MeshStyleError
from models.talking_style_paper import N_LAYERS, LegacySpeech, PaperNet

# what older transformers called the two halves of the positional convolution's weight
OLD_NAMES = {
    ".conv.weight_g": ".conv.parametrizations.weight.original0",
    ".conv.weight_v": ".conv.parametrizations.weight.original1",
}
KINDS = {5023: ("vocaset", 30.0, 1, 30), 23370: ("biwi", 25.0, 2, 25)}  # topology, fps, rows a frame, period
STEPS = (5, 2, 2, 2, 2, 2, 2)  # of HuBERT's convolutions; kernels are read off


class ReleasedPaper(nn.Module):
    """net: PaperNet with its audio_encoder. topology, fps: of its meshes. subjects: names of its one-hot columns."""

    streams = ("sound",)

    def __init__(self, net, topology, fps, subjects):
        super().__init__()
        self.net = net.eval()
        self.stats = {"topology": topology, "fps": [fps], "subjects": list(subjects), "about": {}}

    @classmethod
    def load(cls, path, subjects=None, kind=None):
        """kind: (topology, fps, rows a frame, period), told by the vertex count if left out. subjects: default 0, 1, 2, ..."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
            raise MeshStyleError(f"{path}: not readable as tensors ({error}): save a state_dict alone") from error
        state = {new_name(name.removeprefix("module.")): x for name, x in state.items()}
        needed = (
            "vertice_decoder.weight",
            "style_encoder.obj_vector.weight",
            "audio_encoder.feature_projection.projection.weight",
        )
        missing = [name for name in needed if name not in state]
        if missing:
            raise MeshStyleError(f"{path}: {', '.join(missing)} missing: a checkpoint of TalkingStyle is needed")
        n_vertices, width = len(state[needed[0]]) // 3, state[needed[0]].shape[1]
        if kind is None and n_vertices not in KINDS:
            raise MeshStyleError(f"{path}: {n_vertices} vertices; known are {', '.join(map(str, KINDS))}")
        topology, fps, rows, period = kind or KINDS[n_vertices]
        n_speakers = state[needed[1]].shape[1]
        names = list(subjects) if subjects else [str(k) for k in range(n_speakers)]
        if len(names) != n_speakers:
            raise MeshStyleError(f"{path}: trained on {n_speakers} subjects, {len(names)} names came")
        encoder = LegacySpeech(build_hubert(state), fps if rows == 1 else None)
        n_layers = 1 + max(
            (int(n.split(".")[2]) for n in state if n.startswith("transformer_decoder.layers")), default=N_LAYERS - 1
        )
        net = PaperNet(
            n_vertices, n_speakers, width, period, rows, len(state["audio_feature_map.weight"][0]), encoder, n_layers
        )  # fmt: skip
        try:
            net.load_state_dict(state)
        except RuntimeError as error:
            raise MeshStyleError(f"{path}: does not hold this network's weights ({error})") from error
        return cls(net, topology, fps, names)

    @torch.inference_mode()
    def stream(self, features, subject, template, fps, n_frames=None, chunk=300):
        """Vertices (n, V, 3) piece by piece; features {"sound": (N,) at 16 kHz}, fps that of the training."""
        subjects = self.stats["subjects"]
        if subject not in subjects:
            raise MeshStyleError(f"condition {subject!r} came, there is {', '.join(subjects)}: use one of these names")
        if fps != self.stats["fps"][0]:
            raise MeshStyleError(f"{fps} fps asked for, this network speaks at {self.stats['fps'][0]} only")
        sound = torch.from_numpy(normalised(features["sound"]))[None]
        condition = torch.zeros(1, len(subjects))
        condition[0, subjects.index(subject)] = 1
        flat = torch.as_tensor(np.asarray(template, np.float32)).reshape(1, -1)
        for piece in self.net.stream(self.net.audio_encoder(sound), flat, condition, chunk):
            yield piece[0].unflatten(-1, (-1, 3)).numpy()


def new_name(name):
    """The present name of a tensor in an old checkpoint."""
    for old, new in OLD_NAMES.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def normalised(wav):
    """Mean 0, deviation 1, as the preprocessor of the encoder."""
    wav = np.asarray(wav, np.float32)
    return ((wav - wav.mean(dtype=np.float64)) / np.sqrt(wav.var(dtype=np.float64) + 1e-7)).astype(np.float32)


def build_hubert(state):
    """HubertModel in the sizes of a checkpoint's audio_encoder."""
    from transformers import HubertConfig, HubertModel  # imported late: it takes seconds

    own = {n.removeprefix("audio_encoder."): x for n, x in state.items() if n.startswith("audio_encoder.")}
    convolutions = [own[f"feature_extractor.conv_layers.{k}.conv.weight"] for k in range(len(STEPS))]
    hidden = len(own["feature_projection.projection.weight"])
    place = own["encoder.pos_conv_embed.conv.parametrizations.weight.original1"]
    by_layer = "feature_extractor.conv_layers.1.layer_norm.weight" in own
    n_layers = 1 + max(int(n.split(".")[2]) for n in own if n.startswith("encoder.layers."))
    return HubertModel(
        HubertConfig(
            hidden_size=hidden, num_hidden_layers=n_layers, num_attention_heads=hidden // 64,
            intermediate_size=len(own["encoder.layers.0.feed_forward.intermediate_dense.weight"]),
            conv_dim=[len(c) for c in convolutions], conv_kernel=[c.shape[2] for c in convolutions], conv_stride=list(STEPS),
            conv_bias="feature_extractor.conv_layers.0.conv.bias" in own, feat_extract_norm="layer" if by_layer else "group",
            do_stable_layer_norm=by_layer, num_conv_pos_embeddings=place.shape[2],
            num_conv_pos_embedding_groups=hidden // place.shape[1], attn_implementation="eager",
        )
    )  # fmt: skip
