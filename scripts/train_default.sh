#!/usr/bin/env bash
# Makes the released checkpoint data/checkpoints/default again, from the GRID corpus, speaker s1.
#
#   bash scripts/train_default.sh GRID_S1_FOLDER [OUTPUT]
#
# GRID_S1_FOLDER holds the videos of speaker s1 (*.mpg), from https://zenodo.org/records/3625687 (CC-BY-4.0). About 25 minutes on
# two cores; the steps already done are not done again. OUTPUT, default data/checkpoints/new, gets weights, styles and figures.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ $# -lt 1 ] || ! ls "$1"/*.mpg >/dev/null 2>&1; then
    echo "error: give the folder with the videos of GRID speaker s1 (*.mpg)" >&2
    exit 2
fi
videos="$1"
output="${2:-data/checkpoints/new}"
source scripts/setup.sh requirements.txt

store=data/lmdb/grid_s1
run=data/runs/default
"$PYTHON" -m data_process.clips --input "$videos" --output data/clips/grid_s1
"$PYTHON" -m data_process.build_lmdb --clips data/clips/grid_s1 --output "$store" --split data/splits/grid_s1.json
"$PYTHON" -m data_process.stats --lmdb "$store" --output "$store/stats.json"
resume=()
if [ -f "$run/last.pt" ]; then
    resume=(--resume)
fi
"$PYTHON" train_style.py --config configs/style_avatar_default.yaml "data.lmdb=$store" "run.output=$run" "${resume[@]}"
mkdir -p "$output"
cp "$run/best.safetensors" "$run/best.json" "$output/"
"$PYTHON" -m scripts.make_styles --lmdb "$store" --output "$output/styles"
"$PYTHON" -m scripts.evaluate --lmdb "$store" --checkpoint_dir "$output" --split test --output "$run/test"
