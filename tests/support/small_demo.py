"""The demo in seconds: overrides of configs/tiny/zero.yaml for tests that need a whole run and not its result."""

SMALL = (
    "pretrain.tokens=20000",
    "pretrain.model={hidden_size: 32, layers: 2, heads: 4, kv_heads: 2, intermediate_size: 64}",
    "data.eval.held_out.args={split: test, size: 4, seed: 2}",
    "stages.zero.data.eval.dev.args.size=4",
    "rollout.prompts_per_step=2",
    "rollout.group_size=4",
    "rollout.max_new_tokens=16",
    "evaluate.samples=2",
    "grpo.steps=2",
)
