#!/bin/bash
# Runs a command as a task of train.sbatch: `step.sh end COMMAND` converts Slurm's USR1 to SIGTERM for the command,
# `step.sh stay COMMAND` ignores it.
#
# USR1 would end a launcher at once, and its workers with it: torch's launcher handles only TERM, INT, HUP and QUIT, and
# it starts the workers in their own sessions, where a signal to the step does not reach them. On TERM it sends TERM to
# them and waits TORCH_ELASTIC_SHUTDOWN_TIMEOUT seconds before it kills them. vLLM servers must keep answering until
# the trainers have written their checkpoint; they end with the job.

mode=$1
shift
if [[ $mode == stay ]]; then
    trap '' USR1
    exec "$@"
fi

# Slurm signals only the task (proctrack/cgroup) or its whole process group; the command itself must not receive USR1.
(
    trap '' USR1
    exec "$@"
) &
command=$!
trap 'kill -TERM "$command"' USR1 TERM
while kill -0 "$command" 2>/dev/null; do
    wait "$command" # a trapped signal interrupts the wait
done
wait "$command"
