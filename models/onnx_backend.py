"""Networks run by ONNX Runtime instead of torch: `--backend onnx`.

    with_onnx(method, folder)              # method.net is exported to the folder, or found there, and replaced
    network = OnnxNetwork.of(net, examples, folder)

ONNX Runtime is about twice as fast as torch in float32 on processors without bf16. The packages onnx, onnxscript (to export)
and onnxruntime (to run) are optional: see requirements-gpu.txt. A file is named by the weights it was made from, so a network
that is trained on never meets the file of its old self.
"""

import contextlib
import hashlib
import importlib.util
import logging
import os
import warnings
from pathlib import Path

import torch
from torch import nn

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OPSET = 18
ONE_TENSOR, PLACE = "out", "out{}"  # names of the outputs of a network that returns one tensor, or a tuple


class OnnxError(ValueError):
    """A network that cannot be run by ONNX Runtime here."""


def missing_packages():
    """Names of the optional packages that are not installed."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def require_packages():
    """Refuse where one of them is missing."""
    missing = missing_packages()
    if missing:
        raise OnnxError(
            f"--backend onnx: {', '.join(missing)} not installed: pip install {' '.join(PACKAGES)}, or use --backend torch"
        )


class OnnxNetwork(nn.Module):
    """A file of ONNX in place of a network: called with the same tensors, gives the same.

    Tensors come and go as float32 on the CPU. threads: None takes torch's.
    """

    def __init__(self, path, threads=None):
        super().__init__()
        require_packages()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.inter_op_num_threads = 1
        # between two frames other stages need the core: waiting threads must not spin
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.path = Path(path)
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = [item.name for item in self.session.get_inputs()]
        self.outputs = [item.name for item in self.session.get_outputs()]

    def forward(self, *values):
        """Tensors, or dicts of tensors by input name, in the order of the network's arguments."""
        feeds, names = {}, iter(self.inputs)
        for value in values:
            if isinstance(value, dict):
                for _ in value:
                    name = next(names)
                    feeds[name] = _array(value[name])
            else:
                feeds[next(names)] = _array(value)
        out = [torch.from_numpy(x) for x in self.session.run(self.outputs, feeds)]
        if self.outputs == [ONE_TENSOR]:
            return out[0]
        if self.outputs[0] == PLACE.format(0):
            return tuple(out)
        return dict(zip(self.outputs, out, strict=True))

    @classmethod
    def of(cls, net, examples, folder, dynamic=None, threads=None):
        """The network exported to `folder`, or found there. examples, dynamic: as in `export`."""
        require_packages()
        path = Path(folder) / f"{type(net).__name__.lower()}_{fingerprint(net, examples)}.onnx"
        if not path.is_file():
            export(net, examples, path, dynamic)
        return cls(path, threads)


class _Flat(nn.Module):
    """The network with plain tensors instead of dicts of them."""

    def __init__(self, net, keys):
        super().__init__()
        self.net, self.keys = net, keys

    def forward(self, *tensors):
        values, tensors = [], list(tensors)
        for keys in self.keys:
            values.append({k: tensors.pop(0) for k in keys} if keys else tensors.pop(0))
        out = self.net(*values)
        return tuple(out.values()) if isinstance(out, dict) else out


def export(net, examples, path, dynamic=None):
    """Write a network, which returns a tensor, or a tuple or dict of them, as ONNX, aside first.

    examples: its arguments, each a tensor or a dict of tensors. dynamic: {input name: {axis: name of the length}} of lengths
    that may change; an argument that is a tensor has the name argument0, argument1, ... by its place.
    """
    require_packages()
    keys = [list(x) if isinstance(x, dict) else None for x in examples]
    flat = [t for x in examples for t in (x.values() if isinstance(x, dict) else (x,))]
    names = [n for k, ks in enumerate(keys) for n in (ks or [f"argument{k}"])]
    model = _Flat(net, keys).eval()
    with torch.no_grad():
        out = net.eval()(*examples)
    outputs = list(out) if isinstance(out, dict) else [ONE_TENSOR]
    if isinstance(out, tuple):
        outputs = [PLACE.format(k) for k in range(len(out))]
    dims = {}
    shapes = tuple(
        {axis: dims.setdefault(length, torch.export.Dim.DYNAMIC) for axis, length in (dynamic or {}).get(n, {}).items()}
        for n in names
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    with _quiet():
        program = torch.onnx.export(
            model, tuple(flat), dynamo=True, input_names=names, output_names=outputs, opset_version=OPSET,
            dynamic_shapes=(shapes,), optimize=True, verbose=False,
        )  # fmt: skip
        program.save(str(aside), external_data=False)
    os.replace(aside, path)


@contextlib.contextmanager
def _quiet():
    """The exporter tells each step and what optional packages it did not find."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def fingerprint(net, examples=()):
    """Twelve hexadecimal digits of weights, structure and shapes of the examples."""
    digest = hashlib.sha256(repr(net).encode())
    for name, x in net.state_dict().items():
        digest.update(name.encode())
        digest.update(x.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    shapes = [{k: tuple(v.shape) for k, v in x.items()} if isinstance(x, dict) else tuple(x.shape) for x in examples]
    digest.update(repr((shapes, torch.__version__, OPSET)).encode())
    return digest.hexdigest()[:12]


def with_onnx(model, folder, threads=None):
    """A method or renderer whose network (its `net`) is run by ONNX Runtime; files are kept in `folder`.

    The model says with `onnx_examples()` -> (arguments of its net, dynamic axes) how its network is called.
    """
    require_packages()
    if not hasattr(model, "onnx_examples"):
        raise OnnxError(f"--backend onnx: {type(model).__name__} cannot be exported: use --backend torch")
    examples, dynamic = model.onnx_examples()
    model.net = OnnxNetwork.of(model.net, examples, folder, dynamic, threads)
    return model


def _array(x):
    return x.detach().cpu().float().contiguous().numpy()
