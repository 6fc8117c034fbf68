#!/bin/bash
# What a task of train.sbatch runs: `step.sh end COMMAND` turns Slurm's warning into SIGTERM for the command,
# `step.sh stay COMMAND` keeps it away from it.
#
# USR1 would end a launcher at once, and its workers with it: torch's launcher handles TERM, INT, HUP and QUIT only, and
# it starts the workers in sessions of their own, where a signal to the step does not reach them. On TERM it hands TERM
# on to them and waits TORCH_ELASTIC_SHUTDOWN_TIMEOUT seconds before it kills them. vLLM servers have to answer until
# the trainers have written their checkpoint; they end with the job.

mode=$1
shift
if [[ $mode == stay ]]; then
    trap '' USR1
    exec "$@"
fi

# Slurm signals the task alone (proctrack/cgroup) or its whole process group: the command must not see USR1 itself.
(
    trap '' USR1
    exec "$@"
) &
command=$!
trap 'kill -TERM "$command"' USR1 TERM
while kill -0 "$command" 2>/dev/null; do
    wait "$command" # a trapped signal ends it early
done
wait "$command"
