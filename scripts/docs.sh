#!/usr/bin/env bash
# Installs into .venv with the tools of the documentation, then builds the web site to build/site; a warning
# is an error. Arguments go to mkdocs, such as --site-dir.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
use_environment docs
NO_MKDOCS_2_WARNING=1 mkdocs build --strict "$@"
