#!/usr/bin/env bash
# Installs into .venv and runs the quickstart: simulate, train, roll out, score, report.
# Arguments go to `fourcastnet-afno quickstart`, such as --output runs/mine or --training.seed 1.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
use_environment
exec fourcastnet-afno quickstart "$@"
