#!/usr/bin/env bash
# Makes the released checkpoint data/checkpoints/default again: preset tiny on GRID speaker s1 and a made-up corpus.
#
#   bash scripts/train_default.sh GRID_S1_FOLDER [OUTPUT]
#
# GRID_S1_FOLDER holds the videos of speaker s1 (*.mpg) from https://zenodo.org/records/3625687 (CC-BY-4.0); the sentences used are
# listed in data/splits/grid_s1.json. The made-up corpus is spoken by hibari-tts, which is installed into .venv for it. About half an
# hour on two cores; steps already done are not done again. OUTPUT, default data/checkpoints/new, gets weights and styles.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ $# -lt 1 ] || ! ls "$1"/*.mpg >/dev/null 2>&1; then
    echo "error: give the folder with the videos of GRID speaker s1 (*.mpg)" >&2
    exit 2
fi
videos="$1"
output="${2:-data/checkpoints/new}"
source scripts/setup.sh requirements.txt
"$PYTHON" -m pip install --disable-pip-version-check --progress-bar off hibari-tts==0.2.1 onnxruntime

lmdb=data/lmdb
run=data/runs/default
"$PYTHON" -m data_process.clips --input "$videos" --output data/clips/grid_s1
"$PYTHON" -m data_process.build_lmdb --clips data/clips/grid_s1 --output "$lmdb/grid_s1" \
    --split data/splits/grid_s1.json --speaker_from data/splits/grid_s1_speakers.json
"$PYTHON" -m data_process.synthetic --sentences data/sentences.txt --speakers 16 --minutes 14 --output "$lmdb/synthetic"
"$PYTHON" -m data_process.merge_lmdb --inputs "$lmdb/grid_s1" "$lmdb/synthetic" --output "$lmdb/default"
"$PYTHON" -m data_process.stats --lmdb "$lmdb/default"
resume=()
if [ -f "$run/last.pt" ]; then
    resume=(--resume)
fi
"$PYTHON" train_style.py --config configs/style_avatar_default.yaml "data.lmdb=$lmdb/default" "run.output=$run" ${resume[@]+"${resume[@]}"}
mkdir -p "$output"
cp "$run/best.safetensors" "$run/best.json" "$output/"
"$PYTHON" -m scripts.make_styles --lmdb "$lmdb/grid_s1" --made "$lmdb/synthetic" --output "$output/styles"
"$PYTHON" -m scripts.evaluate --config configs/evaluate_grid_s1.yaml "store=$lmdb/grid_s1" "checkpoint=$output" "output=$run/test"
"$PYTHON" -m scripts.release --checkpoint "$output" --metrics "$run/test/summary.json" --output "$output"
