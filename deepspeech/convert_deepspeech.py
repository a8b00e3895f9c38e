"""Released weights of Mozilla DeepSpeech 0.9 -> one safetensors file. TensorFlow is not needed.

    python -m deepspeech.convert_deepspeech --input deepspeech-0.9.3-models.pbmm --output deepspeech-0.9.safetensors

Input: the .pbmm or .pb graph, or a checkpoint: its folder once unpacked, or its prefix (the path of a .index file without
that ending), which is what style_avatar (MM 2021) used in version 0.9.2. What only training needs is left behind.
"""

import argparse
import sys
from pathlib import Path

from .deepspeech_model import WHERE, DeepSpeech, released_shapes
from .tensorflow_files import read_arrays
from .weights import WeightsError

PREFERRED = "best_dev"  # the checkpoint with the least loss on the development set, which was released as graph


def convert(source, output) -> str:
    """Write the safetensors file -> identity of the weights."""
    from safetensors.numpy import save_file

    source = find_checkpoint(Path(source))
    arrays = read_arrays(source, released_shapes())
    identity = DeepSpeech.from_released(arrays, source).identity
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(output.name + ".part")
    save_file(arrays, part, metadata={"source": source.name, "identity": identity})
    part.replace(output)
    return identity


def find_checkpoint(path: Path) -> Path:
    """Prefix of the checkpoint in a folder; a file or prefix is given back as it is."""
    if path.suffix == ".index":
        return path.with_suffix("")
    if not path.is_dir():
        return path
    prefixes = sorted(file.with_suffix("") for file in path.rglob("*.index"))
    best = [prefix for prefix in prefixes if prefix.name.startswith(PREFERRED)] or prefixes
    if len(best) != 1:
        names = ", ".join(prefix.name for prefix in prefixes) or "none"
        raise WeightsError(f"{path}: one checkpoint is needed, there are: {names}; give the prefix of one; {WHERE}")
    return best[0]


def main(argv=None):
    """Exit status: 0 written, 1 not."""
    parser = argparse.ArgumentParser(
        prog="python -m deepspeech.convert_deepspeech",
        description="Convert the acoustic model of DeepSpeech 0.9 to safetensors.",
    )
    parser.add_argument("--input", required=True, help=".pbmm, .pb, or folder or prefix of a checkpoint")
    parser.add_argument("--output", required=True, help="safetensors file to write")
    args = parser.parse_args(argv)
    try:
        identity = convert(args.input, args.output)
    except (WeightsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{args.output}: weights {identity}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
