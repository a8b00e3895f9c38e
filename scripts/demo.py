"""The main job on the bundled picture and speech, in two styles side by side: data/runs/demo/demo.mp4.

    python -m scripts.demo [--source_image ...] [--driven_audio ...] [--style_clip ...]

Further arguments go to inference.py; the later of two equal ones counts.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = Path("data/runs/demo")
DEFAULTS = [
    "--source_image", "data/demo/portrait.png",
    "--driven_audio", "data/demo/speech.flac",
    "--style_clip", "lively", "restrained",
    "--result_dir", str(RESULTS),
    "--name", "demo",
    "--overwrite",
]  # fmt: skip


def main():
    code = subprocess.run([sys.executable, "inference.py", *DEFAULTS, *sys.argv[1:]], cwd=ROOT).returncode
    if code == 0:
        print(f"look at {RESULTS / 'demo.mp4'}")
    sys.exit(code)


if __name__ == "__main__":
    main()
