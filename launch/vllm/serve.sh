#!/bin/sh
# Start vLLM servers for r1rl by hand, on another host or to serve several runs. Then set in the configuration:
#
#     rollout: { engine: vllm, vllm: { mode: server, urls: [http://HOST:8000] } }
#
#     VLLM_API_KEY=… HOST=… launch/vllm/serve.sh CONFIG [KEY=VALUE…]    one server per
#         rollout.vllm.tensor_parallel_size visible GPUs, at the ports from PORT on, as the configuration wants them
#     VLLM_API_KEY=… HOST=… launch/vllm/serve.sh MODEL [bfloat16|float32] [further arguments of vllm serve]
#
# As rollout.vllm.launcher it gets vLLM's own arguments and passes them on.
#
# Anyone who can reach the port can replace the weights: HOST must be loopback or in a private network. With NCCL the
# trainer needs its own GPUs; BACKEND=r1rl_shm reads weights from shared memory, for a server on the same host.
set -eu
PYTHON=${PYTHON:-python3}
HOST=${HOST:-127.0.0.1}
PORT=${PORT:-8000}
case $1 in
-*)
    exec "$PYTHON" -m r1rl.rollout.vllm.serve "$@"
    ;;
*.yaml | *.yml)
    exec "$PYTHON" -m r1rl.rollout.vllm.node "$@" --host "$HOST" --port "$PORT"
    ;;
esac
MODEL=$1
DTYPE=${2:-bfloat16}
if [ $# -gt 2 ]; then shift 2; else shift $#; fi
# In lower precision r1rl computes the output head in float32 (model.cast_lm_head_to_fp32), so the server does, too.
if [ "$DTYPE" != float32 ] && [ "${FP32_HEAD:-1}" = 1 ]; then
    set -- --hf-overrides '{"head_dtype": "float32"}' "$@"
fi
exec "$PYTHON" -m r1rl.rollout.vllm.serve \
    --model "$MODEL" --dtype "$DTYPE" --host "$HOST" --port "$PORT" \
    --weight-transfer-config "{\"backend\": \"${BACKEND:-nccl}\"}" \
    --logprobs-mode processed_logprobs --generation-config vllm --enable-scale-out "$@"
