#!/bin/sh
# Start a vLLM server for r1rl by hand, on another host or to serve several runs. Then set in the configuration:
#
#     rollout: { engine: vllm, vllm: { mode: server, urls: [http://HOST:8000] } }
#
#     VLLM_API_KEY=… launch/vllm/serve.sh MODEL [bfloat16|float32] [further arguments of vllm serve]
#
# Anyone who can reach the port can replace the weights: HOST must be loopback or in a private network. With NCCL the
# trainer needs its own GPUs; BACKEND=r1rl_shm reads weights from shared memory, for a server on the same host.
set -eu
MODEL=$1
DTYPE=${2:-bfloat16}
[ $# -gt 2 ] && shift 2 || shift $#
exec "${PYTHON:-python3}" -m r1rl.rollout.vllm.serve \
    --model "$MODEL" --dtype "$DTYPE" \
    --host "${HOST:-127.0.0.1}" --port "${PORT:-8000}" \
    --weight-transfer-config "{\"backend\": \"${BACKEND:-nccl}\"}" \
    --logprobs-mode processed_logprobs --generation-config vllm --enable-scale-out "$@"
