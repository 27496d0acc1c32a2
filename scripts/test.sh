#!/usr/bin/env bash
# Installs into .venv with the test tools, then checks style, types, layering and runs the tests.
# Arguments go to pytest, such as -k rollout or -m "not slow". A process for each core runs tests, with a
# thread each; the tests of a file stay together, so that what they share is made once.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
use_environment dev
ruff check .
ruff format --check .
lint-imports
pyright --pythonpath "$(command -v python)"
OMP_NUM_THREADS=1 pytest -n auto --dist loadfile --no-loadscope-reorder "$@"
