#!/usr/bin/env bash
# Installs into .venv with the test tools, then checks style, types, layering and runs the tests.
# Arguments go to pytest, as -k rollout or -m "not slow".
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
use_environment dev
ruff check .
ruff format --check .
lint-imports
pyright --pythonpath "$(command -v python)"
pytest "$@"
