#!/bin/bash
# A volume on a cluster with Slurm: one worker per task, each with a GPU of its own.
#
#     sbatch slurm.sh axolemma segment volume.zarr -o out.zarr --objects neurons
#
# The command gets `--engine` appended. When the time is over, or a machine is lost, hand in the
# same again: it goes on where it stopped. The folder must be one that all machines see.
#SBATCH --job-name=axolemma
#SBATCH --ntasks=16
#SBATCH --cpus-per-task=4
#SBATCH --gpus-per-task=1
#SBATCH --mem-per-cpu=4G
#SBATCH --time=24:00:00

set -u
file="$PWD/scheduler-${SLURM_JOB_ID:-0}.json"
rm -f "$file"
trap 'kill $(jobs -p) 2>/dev/null; rm -f "$file"' EXIT

# Without this, numpy and torch would have one thread in each worker.
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"

dask scheduler --scheduler-file "$file" --port 0 --no-dashboard &

# --memory-limit 0: Slurm watches the memory; a worker that dask has paused would only stand still.
# --death-timeout: a worker whose scheduler does not come gives its place back.
srun --kill-on-bad-exit=0 --wait=0 \
    dask worker --scheduler-file "$file" --nworkers 1 --nthreads 1 --memory-limit 0 \
    --death-timeout 300 --local-directory "${TMPDIR:-/tmp}" --no-dashboard &

"$@" --engine "dask+file://$file?patience=1800"
