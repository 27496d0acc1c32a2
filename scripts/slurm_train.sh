#!/usr/bin/env bash
# Trains on GPUs of SLURM: one process for each GPU, on one node or many.
#
#   scripts/slurm_train.sh [--nodes N] [--gpus-per-node G] [--cpus-per-gpu C] [--time H:MM:SS]
#       [--signal-seconds S] [--max-restarts R] [--sbatch "OPTIONS"] [--dry-run] -- ARGUMENTS
#
# ARGUMENTS go to `python -m fourcastnet_afno train`, such as --config configs/weatherbench2_64x32.yaml
# --output runs/era5. S seconds before the time limit the run writes a checkpoint and the job goes
# back to the queue, where it resumes; at most R times. OPTIONS go to sbatch, such as "--account=abc
# --partition=gpu". --dry-run prints the batch script instead of submitting it.
set -euo pipefail

nodes=1 gpus=4 cpus=8 limit=04:00:00 seconds=180 restarts=50 options="" dry=false
fail() {
    echo "error: $1" >&2
    exit 2
}
number() { # NAME VALUE LEAST
    [[ $2 =~ ^[0-9]+$ ]] && [ "$2" -ge "$3" ] || fail "$1 takes a number of at least $3, got '$2'"
}
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case $1 in
        --dry-run) dry=true; shift; continue ;;
        --nodes | --gpus-per-node | --cpus-per-gpu | --time | --signal-seconds | --max-restarts | --sbatch) ;;
        *) fail "unknown option $1; arguments of the training come after --" ;;
    esac
    [ $# -ge 2 ] || fail "$1 needs a value"
    case $1 in
        --nodes) number "$1" "$2" 1; nodes=$2 ;;
        --gpus-per-node) number "$1" "$2" 0; gpus=$2 ;;
        --cpus-per-gpu) number "$1" "$2" 1; cpus=$2 ;;
        --time) limit=$2 ;;
        --signal-seconds) number "$1" "$2" 1; seconds=$2 ;;
        --max-restarts) number "$1" "$2" 0; restarts=$2 ;;
        --sbatch) options=$2 ;;
    esac
    shift 2
done
[ "${1:-}" = -- ] || fail "give the arguments of the training after --, such as -- --config FILE --output FOLDER"
shift
[ $# -gt 0 ] || fail "nothing comes after --; give --config FILE --output FOLDER"

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Without GPUs there is one process on each node.
tasks=$((gpus > 0 ? gpus : 1))
batch_script() {
    echo "#!/usr/bin/env bash"
    echo "#SBATCH --job-name=fourcastnet-afno"
    echo "#SBATCH --nodes=$nodes"
    echo "#SBATCH --ntasks-per-node=$tasks"
    [ "$gpus" -eq 0 ] || echo "#SBATCH --gpus-per-node=$gpus"
    echo "#SBATCH --cpus-per-task=$cpus"
    echo "#SBATCH --time=$limit"
    # Without B: the signal goes to the processes of srun, not to this script.
    echo "#SBATCH --signal=USR1@$seconds"
    echo "#SBATCH --requeue"
    echo "#SBATCH --open-mode=append"
    echo "#SBATCH --output=slurm-%j.out"
    echo "cd $(printf %q "$root")"
    echo "export PATH=$(printf %q "${VENV:-$root/.venv}/bin"):\$PATH OMP_NUM_THREADS=$cpus"
    echo "code=0"
    # A rank that raises stops the others itself; --wait is for one that has crashed. Killing at the
    # first bad exit would hide the code of ranks that have been stopped by a signal.
    echo "srun --kill-on-bad-exit=0 --wait=60 --cpus-per-task=$cpus \\"
    echo "    python -m fourcastnet_afno train$(printf ' %q' "$@") || code=\$?"
    # 75: the run was stopped by a signal, after a complete checkpoint.
    echo "if [ \$code -eq 75 ] && [ \"\${SLURM_RESTART_COUNT:-0}\" -lt $restarts ]; then"
    echo "    scontrol requeue \"\$SLURM_JOB_ID\""
    echo "    exit 0"
    echo "fi"
    echo "exit \$code"
}
if $dry; then
    [ -z "$options" ] || echo "# sbatch $options"
    batch_script "$@"
    exit 0
fi
command -v sbatch > /dev/null || fail "sbatch is not in PATH; on a machine without SLURM use torchrun --nproc-per-node=N -m fourcastnet_afno train ..."
# shellcheck disable=SC2086 # OPTIONS are words.
batch_script "$@" | sbatch $options
