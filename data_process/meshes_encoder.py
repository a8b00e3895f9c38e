"""What the mesh line hears: the features that need no download, or the rows of a speech encoder of the user's."""

import sys

from data_process.meshes import summary
from deepspeech import features
from deepspeech.encoders import Encoder


def add_arguments(parser):
    """--encoder and --layer of the commands that prepare mesh data, and what they share."""
    parser.add_argument("--encoder", help="folder of HuBERT, wav2vec 2.0 or WavLM; without it phonemes, mel and energy")
    parser.add_argument("--layer", type=int, help="its hidden layer (default the last)")
    parser.add_argument("--fps", type=float, help="bring every clip to this rate (default: that of the papers)")
    parser.add_argument("--basis", type=int, default=64, help="components of the basis that ours works in (default 64)")


def make_extract(encoder=None, layer=None):
    """(function sound (N,) -> {name: (A, C)} at 50 Hz, facts about it)."""
    if not encoder:
        return features, {"features": "phonemes, mel, energy"}
    network = Encoder.load(encoder, layer)
    return (lambda wav: {"encoder": network(wav)}), {"features": "encoder", "encoder": network.about}


def run(parser, argv, prepare):
    """Exit status of a command that prepares mesh data: 0 prepared, 1 refused with a reason.

    prepare: its work, parsed arguments -> what `meshes.summary` tells of. Every reason to refuse is an OSError or ValueError.
    """
    add_arguments(parser)
    try:
        print(summary(prepare(parser.parse_args(argv))))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
