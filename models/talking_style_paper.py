"""TalkingStyle as published (Song et al., TVCG 2024): speech features and a speaker's number -> vertices, frame by frame.

    net = PaperNet(**PRESETS["vocaset"])
    vertices = net.predict(speech, template, speaker)            # (B, T, 3 V), exact and fast
    vertices = net.predict(speech, template, speaker, "naive")   # as released: equal to rounding, 40 times slower

Module names are those of the released checkpoints. Faults of the release that touch results are kept where exactness needs
them (the style attends to one key, the rate of the sound is matched before its transformer) and are otherwise behind
`legacy`. The caps are gone: any number of frames, any batch.

How decoding becomes fast without changing: the next token is an encoded decoded vector, We (Wd h + bd) + be + style, so it
never needs the vertices but one F x F map of h; keys and values of past frames are kept; what a frame takes from its own
sound does not depend on the past. All vertices come out of one product at the end.

Vertices are in the unit of the data (metres for VOCASET), flattened (B, T, 3 V); V vertices, F width, T frames, H speech rows.
"""

import math

import torch
from torch import nn
from torch.nn import functional

N_HEADS, N_LAYERS, SPEECH_DIMS, LONGEST_RELEASED = 4, 6, 1024, 600
# speech rows a motion frame sees: VOCASET brings the sound to the motion's rate, BIWI reads two rows of 50 Hz at 25 fps
PRESETS = {
    "vocaset": {"n_vertices": 5023, "n_speakers": 8, "width": 64, "period": 30, "rows_per_frame": 1},
    "biwi": {"n_vertices": 23370, "n_speakers": 6, "width": 128, "period": 25, "rows_per_frame": 2},
    # 3D-MEAD's readme names it, its code cannot run it: the FLAME mesh of VOCASET with the speakers of its own split
    "mead": {"n_vertices": 5023, "n_speakers": 31, "width": 64, "period": 30, "rows_per_frame": 1},
    "open": {"n_vertices": 5070, "n_speakers": 16, "width": 64, "period": 25, "rows_per_frame": 1},
}
# of the lifted style: four numbers a scalar, four heads of one number
STYLE_LIFT = 4


class PaperError(ValueError):
    """Input that the network of the paper cannot take."""


class PeriodicPosition(nn.Module):
    """Sine table of t mod period, (1, n, F); frames past the table wrap round, which is what the table does itself."""

    def __init__(self, width, period):
        super().__init__()
        self.period = period
        place = torch.arange(period, dtype=torch.float32)[:, None]
        rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10000.0) / width))
        table = torch.zeros(period, width)
        table[:, 0::2], table[:, 1::2] = torch.sin(place * rate), torch.cos(place * rate)
        self.register_buffer("pe", table.repeat(LONGEST_RELEASED // period + 1, 1)[None])
        self.dropout = nn.Dropout(0.1)

    def forward(self, tokens, first=0):
        """tokens (B, n, F) of frames first, first + 1, ..."""
        frames = torch.arange(first, first + tokens.shape[1], device=tokens.device) % self.period
        return self.dropout(tokens + self.pe[0, frames])


class StyleAttention(nn.Module):
    """The released style branch: each scalar lifted to four, attention over one key, back to a scalar.

    With one key the weights are all 1, so Wq and Wk get no gradient: a fact of the paper's network, kept for its weights.
    """

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(STYLE_LIFT, STYLE_LIFT)
        self.Wq, self.Wk, self.Wv = (nn.Linear(1, STYLE_LIFT) for _ in range(3))
        self.norm = nn.LayerNorm(STYLE_LIFT)
        self.head = nn.Linear(STYLE_LIFT, 1)
        self.dropout = nn.Dropout(0.1)

    def forward(self, query, value):
        """query, value (B, F) -> (B, F)."""
        shape = query.shape
        q, kv = query.reshape(1, -1, 1), value.reshape(1, -1, 1)
        out, _ = self.attention(self.Wq(q), self.Wk(kv), self.Wv(kv), need_weights=False)
        return self.dropout(self.head(self.norm(out))).reshape(shape)


class SpeakerStyle(nn.Module):
    """One-hot speakers (B, N) -> style (B, F) >= 0: ReLU of a linear map plus the attention branch."""

    def __init__(self, n_speakers, width):
        super().__init__()
        self.obj_vector = nn.Linear(n_speakers, width, bias=False)
        self.my_obj_vector = nn.Embedding(n_speakers, width)
        self.attention = StyleAttention()

    def forward(self, one_hot):
        linear = self.obj_vector(one_hot)
        return functional.relu(linear + self.attention(linear, self.my_obj_vector(one_hot.argmax(-1))))


class PaperNet(nn.Module):
    """Decoder of the paper, with its speech encoder if one is given.

    n_vertices, n_speakers, width, period, rows_per_frame: see PRESETS. speech_dims: numbers a row of speech features.
    audio_encoder: module (B, samples) -> (B, H, speech_dims) under the released name, or None for features made elsewhere.
    """

    def __init__(
        self, n_vertices, n_speakers, width, period, rows_per_frame, speech_dims=SPEECH_DIMS, audio_encoder=None,
        n_layers=N_LAYERS,
    ):  # fmt: skip
        super().__init__()
        self.period, self.rows_per_frame, self.width = period, rows_per_frame, width
        if audio_encoder is not None:
            self.audio_encoder = audio_encoder
        self.audio_feature_map = nn.Linear(speech_dims, width)
        self.vertice_encoder = nn.Linear(3 * n_vertices, width)
        self.PPE = PeriodicPosition(width, period)
        layer = nn.TransformerDecoderLayer(width, N_HEADS, 2 * width, batch_first=True)
        self.transformer_decoder = nn.TransformerDecoder(layer, n_layers)
        self.vertice_decoder = nn.Linear(width, 3 * n_vertices)
        self.style_encoder = SpeakerStyle(n_speakers, width)
        nn.init.zeros_(self.vertice_decoder.weight)
        nn.init.zeros_(self.vertice_decoder.bias)

    @property
    def slopes(self):
        """(4,) by how much a head cares less for each period that has passed."""
        return torch.tensor([2.0 ** (-2 * (h + 1)) for h in range(N_HEADS)]).to(self.vertice_decoder.weight)

    def history_bias(self, n_frames, query=None):
        """Bias (4, n, n), or (4, 1, query + 1) of one query frame: -slope floor((i - j) / period), -inf for the future."""
        device = self.vertice_decoder.weight.device
        rows = torch.arange(n_frames, device=device) if query is None else torch.tensor([query], device=device)
        columns = torch.arange(n_frames if query is None else query + 1, device=device)
        back = rows[:, None] - columns
        bias = -self.slopes[:, None, None] * (back // self.period)
        return bias.masked_fill(back < 0, -math.inf)

    def sound_mask(self, n_frames, n_rows):
        """(T, H) True where a frame must not look: each sees its own rows only."""
        frames = torch.arange(n_frames, device=self.vertice_decoder.weight.device)
        return frames[:, None] != torch.arange(n_rows, device=frames.device) // self.rows_per_frame

    def predict(self, speech, template, speaker, how="fast", n_frames=None):
        """Vertices (B, T, 3 V) of speech (B, H, D), template (B, 3 V) and one-hot speaker (B, N).

        how: "fast" or "naive", the loop as released. n_frames: T, at most H / rows_per_frame, its default.
        """
        n_frames = speech.shape[1] // self.rows_per_frame if n_frames is None else n_frames
        if not 0 < n_frames * self.rows_per_frame <= speech.shape[1]:
            raise PaperError(
                f"{speech.shape[1]} speech rows for {n_frames} frames came, {self.rows_per_frame} a frame are needed: "
                "cut the motion to the sound's length"
            )
        style = self.style_encoder(speaker)
        memory = self.audio_feature_map(speech[:, : n_frames * self.rows_per_frame])
        hidden = {"fast": self._fast, "naive": self._naive}[how](memory, style, n_frames)
        return self.vertice_decoder(hidden) + template[:, None]

    def stream(self, speech, template, speaker, chunk=300):
        """`predict` in pieces of `chunk` frames, for clips whose vertices do not fit into memory: yields (B, n, 3 V)."""
        style = self.style_encoder(speaker)
        hidden = self._fast(self.audio_feature_map(speech), style, speech.shape[1] // self.rows_per_frame)
        for start in range(0, hidden.shape[1], chunk):
            yield self.vertice_decoder(hidden[:, start : start + chunk]) + template[:, None]

    def _naive(self, memory, style, n_frames):
        """The released loop: everything anew for each frame, through the vertices and back."""
        bias = self.history_bias(n_frames).repeat(len(memory), 1, 1)
        blocked = self.sound_mask(n_frames, memory.shape[1])
        tokens = style[:, None]
        for n in range(1, n_frames + 1):
            hidden = self.transformer_decoder(
                self.PPE(tokens), memory, tgt_mask=bias[:, :n, :n], memory_mask=blocked[:n]
            )
            moved = self.vertice_decoder(hidden)
            tokens = torch.cat([tokens, self.vertice_encoder(moved[:, -1:]) + style[:, None]], 1)
        return hidden

    def _fast(self, memory, style, n_frames):
        """Hidden states (B, T, F), one frame after the other, each computed once."""
        decode, encode = self.vertice_decoder, self.vertice_encoder
        fold = encode.weight @ decode.weight  # (F, F)
        start = encode.weight @ decode.bias + encode.bias + style  # (B, F)
        layers = [
            _CachedLayer(layer, memory, self.rows_per_frame, n_frames) for layer in self.transformer_decoder.layers
        ]
        lags = torch.arange(n_frames, device=memory.device).flip(0)
        lag_bias = -self.slopes[:, None, None] * (lags // self.period)  # of the keys up to a frame: its last columns
        place, token, out = self.PPE.pe[0], style, []
        for t in range(n_frames):
            x = self.PPE.dropout(token + place[t % self.period])
            bias = lag_bias[:, :, n_frames - 1 - t :]
            for layer in layers:
                x = layer.step(x, t, bias)
            out.append(x)
            token = torch.addmm(start, x, fold.T)
        return torch.stack(out, 1)


class _CachedLayer:
    """One post-norm decoder layer, frame by frame: past keys and values kept, the sound's share worked out beforehand.

    Dropout follows the layer's mode. With gradients on, the caches grow by concatenation, else in place.
    """

    def __init__(self, layer, memory, rows_per_frame, n_frames):
        self.layer, self.heads, self.rows = layer, layer.self_attn.num_heads, rows_per_frame
        batch, _, width = memory.shape
        self.shape = (batch, 3, self.heads, 1, width // self.heads)
        cross = layer.multihead_attn
        weight, bias = cross.in_proj_weight, cross.in_proj_bias
        self.query = (weight[:width], bias[:width])
        values = functional.linear(memory, weight[2 * width :], bias[2 * width :])
        if rows_per_frame == 1:  # one key: its weight is 1
            self.sound = cross.out_proj(values).unbind(1)
        else:
            shape = (batch, n_frames, rows_per_frame, self.heads, width // self.heads)
            keys = functional.linear(memory, weight[width : 2 * width], bias[width : 2 * width])
            # per frame (B, heads, rows, head width)
            self.keys_of_sound = keys.view(shape).permute(0, 1, 3, 2, 4).unbind(1)
            self.values_of_sound = values.view(shape).permute(0, 1, 3, 2, 4).unbind(1)
        self.grows = torch.is_grad_enabled()
        n = 0 if self.grows else n_frames
        self.keys, self.values = (memory.new_zeros(batch, self.heads, n, self.shape[-1]) for _ in range(2))

    def step(self, x, t, bias):
        """x (B, F) of frame t -> (B, F); bias (heads, 1, t + 1)."""
        layer = self.layer
        x = self._normed(layer.norm1, x, self._history(x, t, bias))
        x = self._normed(layer.norm2, x, self._own_sound(x, t))
        inner = self._drop(layer.activation(functional.linear(x, layer.linear1.weight, layer.linear1.bias)))
        return self._normed(layer.norm3, x, functional.linear(inner, layer.linear2.weight, layer.linear2.bias))

    def _normed(self, norm, x, new):
        return functional.layer_norm(x + self._drop(new), norm.normalized_shape, norm.weight, norm.bias, norm.eps)

    def _drop(self, x):
        return functional.dropout(x, self.layer.dropout1.p) if self.layer.training else x

    def _history(self, x, t, bias):
        attention = self.layer.self_attn
        q, k, v = functional.linear(x, attention.in_proj_weight, attention.in_proj_bias).view(self.shape).unbind(1)
        if self.grows:
            self.keys, self.values = torch.cat([self.keys, k], 2), torch.cat([self.values, v], 2)
        else:
            self.keys[:, :, t : t + 1], self.values[:, :, t : t + 1] = k, v
        return self._attend(attention, q, self.keys[:, :, : t + 1], self.values[:, :, : t + 1], bias)

    def _own_sound(self, x, t):
        if self.rows == 1:
            return self.sound[t]
        attention = self.layer.multihead_attn
        q = functional.linear(x, *self.query).view(len(x), self.heads, 1, -1)
        return self._attend(attention, q, self.keys_of_sound[t], self.values_of_sound[t], None)

    def _attend(self, attention, q, k, v, bias):
        drop = attention.dropout if self.layer.training else 0.0
        seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=drop)
        return functional.linear(seen.flatten(1), attention.out_proj.weight, attention.out_proj.bias)


class LegacySpeech(nn.Module):
    """The paper's speech encoder: a HuBERT whose convolution rows are brought to the motion's rate before its transformer.

    hubert: transformers.HubertModel. frames_per_s: 30 for VOCASET, whose rows are interpolated end to end; None for BIWI,
    where an odd last row is dropped. The network was trained at 50 rows a second, and ours interpolates its results by time
    instead (`deepspeech.encoders`); this form is what released weights need.
    """

    def __init__(self, hubert, frames_per_s=None):
        super().__init__()
        self.frames_per_s = frames_per_s
        for name, child in hubert.named_children():
            self.add_module(name, child)
        self.masked_spec_embed = getattr(hubert, "masked_spec_embed", None)  # SpecAugment's, unused at inference

    def forward(self, sound):
        """Sound (B, samples), 16 kHz, mean 0 and deviation 1 -> (B, H, 1024)."""
        rows = self.feature_extractor(sound)
        if self.frames_per_s is None:
            rows = rows[:, :, : rows.shape[2] // 2 * 2]
        else:
            n = int(self.frames_per_s * rows.shape[2] / 50)
            rows = functional.interpolate(rows, size=n, align_corners=True, mode="linear")
        hidden = self.feature_projection(rows.transpose(1, 2))
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        return self.encoder(hidden)[0]


def legacy_losses(pred, true, mouth_coordinates):
    """The paper's (total, all, mouth): .4 MSE of all coordinates + .6 MSE of the mouth's.

    pred, true: (B, T, 3 V). mouth_coordinates: positions on the flattened axis of 3 V; the released code puts vertex ids here,
    which name other places (`coordinates_of` is right).
    """
    error = (pred - true).square()
    whole, mouth = error.mean(), error[..., mouth_coordinates].mean()
    return 0.4 * whole + 0.6 * mouth, whole, mouth


def coordinates_of(vertex_ids):
    """Positions of vertices on the flattened axis: (L,) -> (3 L,)."""
    ids = torch.as_tensor(vertex_ids).unique()
    return (3 * ids[:, None] + torch.arange(3)).flatten()
