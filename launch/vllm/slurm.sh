#!/bin/bash
# vLLM servers on one node, training on the others. MODEL must equal model.path in the configuration.
#
#     sbatch --nodes=3 --export=MODEL=…,CONFIG=… launch/vllm/slurm.sh
#
#SBATCH --job-name=r1rl
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
set -euo pipefail
mapfile -t NODES < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
SERVERS=${NODES[0]}
GPUS=${GPUS:-8}
export VLLM_API_KEY=${VLLM_API_KEY:-$(openssl rand -hex 16)}

URLS=""
for gpu in $(seq 0 $((GPUS - 1))); do
    CUDA_VISIBLE_DEVICES=$gpu HOST=$SERVERS PORT=$((8000 + gpu)) \
        srun --overlap --nodes=1 --ntasks=1 --nodelist="$SERVERS" launch/vllm/serve.sh "$MODEL" bfloat16 &
    URLS="$URLS${URLS:+, }http://$SERVERS:$((8000 + gpu))"
done

MAIN=${NODES[1]}
srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --exclude="$SERVERS" bash -c "
    accelerate launch --config_file launch/accelerate/zero3.yaml \
        --num_machines $((SLURM_JOB_NUM_NODES - 1)) --machine_rank \$SLURM_PROCID \
        --num_processes $(((SLURM_JOB_NUM_NODES - 1) * GPUS)) --main_process_ip $MAIN --main_process_port 29500 \
        -m r1rl run '$CONFIG' rollout.engine=vllm rollout.vllm.mode=server 'rollout.vllm.urls=[$URLS]'"
kill %%
