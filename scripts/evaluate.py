"""How good is generated motion and video: the real clip, our renderer's ceiling and the method side by side, on frames it never saw.

    python -m scripts.evaluate --config configs/evaluate_grid_s1.yaml [key=value ...]
    python -m scripts.evaluate --lmdb data/lmdb/mine --checkpoint_dir data/runs/mine --output data/runs/mine/test    # motion only

Settings: `configs.evaluation.EvaluateConfig`. Always three rows: `real` (the clip's own video), `re-rendered` (its tracked motion drawn
from the identity frame), `generated` (its sound, style of other material); beside them baselines and other styles. Style and identity
never come from the frames under test. Every video goes through one pinned encoding before it is measured.

Writes settings.yaml, metrics.jsonl (one line a clip, row and seed), summary.json, table.md and report.html, which opens offline.
Run again, it goes on where it stopped.
"""

import argparse
import sys
from pathlib import Path

from configs import ConfigError, load
from configs.evaluation import EvaluateConfig
from data_process.schema import SPLITS, StoreError
from models.checkpoint import CheckpointError
from models.device import DeviceError
from models.style import StyleError
from scripts.evaluation import report, run, table
from scripts.evaluation.sources import ProtocolError

USER_ERRORS = (ProtocolError, ConfigError, DeviceError, StoreError, CheckpointError, StyleError, OSError)


def parse(argv=None):
    """Command line -> EvaluateConfig; the flags are older names of settings."""
    parser = argparse.ArgumentParser(prog="python -m scripts.evaluate", description=__doc__.split("\n")[0])
    parser.add_argument("--config", type=Path, help="YAML of settings; without it the defaults, motion only")
    parser.add_argument("--lmdb", help="store to evaluate on (store=...)")
    parser.add_argument("--checkpoint_dir", help="trained method (checkpoint=...)")
    parser.add_argument("--split", choices=SPLITS, help="of the store (split=...)")
    parser.add_argument("--output", help="folder for the results (output=...)")
    parser.add_argument("--device", help="cpu, cuda (device=...)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings, with dotted names")
    args = parser.parse_intermixed_args(argv)
    if not (args.config or args.lmdb or any(text.startswith("store=") for text in args.overrides)):
        parser.error("give --config, or at least --lmdb and --output")
    names = {"lmdb": "store", "checkpoint_dir": "checkpoint", "split": "split", "output": "output", "device": "device"}
    flags = [f"{name}={getattr(args, flag)}" for flag, name in names.items() if getattr(args, flag)]
    return load(args.config, ([] if args.config else ["video=false"]) + flags + args.overrides, EvaluateConfig)


def main(argv=None):
    try:
        config = parse(argv)
        folder = run.evaluate(config)
        found, title, facts = table.write_tables(folder, config.report.strata)
        page = report.write(folder, config.report, found, title, facts)
    except USER_ERRORS as error:
        sys.exit(f"error: {error}")
    print((folder / "table.md").read_text())
    print(page)


if __name__ == "__main__":
    main()
