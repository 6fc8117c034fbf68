"""Reward functions in processes of their own: what they may do there, and what a lost process costs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from r1rl.config.rewards import RewardConfig
from r1rl.errors import RewardError
from r1rl.scoring.processes import look_for
from r1rl.types import Group
from tests.support.waits import HANG_S, until

MakeGroup = Callable[..., Group]


def values(scorer: Any, name: str, groups: list[Group]) -> list[float]:
    """The first completion's value in each group."""
    return [float(scored.by_reward[name][0]) for scored in scorer.score(groups)]


def wait_for_the_end_of(pids: list[int]) -> None:
    """Wait until none of the processes runs."""
    until(lambda: not any(map(running, pids)), "the end of processes")


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


IDIOMS = """
import asyncio, os, signal, sys, threading

calls = []

def alarmed(completions, **kwargs):
    def late(number, frame):
        raise TimeoutError
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        signal.pause()
        return [0.0] * len(completions)
    except TimeoutError:
        return [1.0] * len(completions)
    finally:
        signal.signal(signal.SIGALRM, before)

def main_thread(completions, **kwargs):
    return [float(threading.current_thread() is threading.main_thread())] * len(completions)

def looped(completions, **kwargs):
    async def one(text):
        await asyncio.sleep(0)
        return float(len(text))
    async def all_of_them():
        return await asyncio.gather(*map(one, completions))
    first = asyncio.run(all_of_them())
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        assert loop.run_until_complete(all_of_them()) == first
    finally:
        loop.close()
    return first

def printing(completions, **kwargs):
    print("noise on stdout", completions)
    os.write(1, b"raw noise\\n")
    print("noise on stderr", file=sys.stderr)
    return [1.0] * len(completions)

def asking(completions, **kwargs):
    try:
        input()
    except EOFError:
        return [1.0] * len(completions)

def remember(completions, **kwargs):
    calls.append(1)
    return [float(len(calls))] * len(completions)

def remembered(completions, **kwargs):
    return [float(len(calls))] * len(completions)

def without_torch(completions, **kwargs):
    return [float("torch" not in sys.modules and "numpy" not in sys.modules)] * len(completions)

def where(completions, **kwargs):
    return [float(os.getpid())] * len(completions)

def starting(completions, **kwargs):
    import subprocess
    out = subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True, timeout=60).stdout
    return [float(out)] * len(completions)

def forking(completions, **kwargs):
    import multiprocessing
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return [float(size) for size in pool.map(len, completions)]

def checking(completions, answer, **kwargs):
    from r1rl.verify import equivalent
    return [float(bool(equivalent(gold, text))) for gold, text in zip(answer, completions)]
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alarmed", 1.0), ("main_thread", 1.0), ("looped", 3.0), ("printing", 1.0), ("asking", 1.0),
        ("without_torch", 1.0), ("starting", 42.0), ("forking", 3.0), ("checking", 1.0),
    ],
)  # fmt: skip
def test_what_published_functions_do(scorer_of: Any, group: MakeGroup, name: str, expected: float) -> None:
    scorer = scorer_of(IDIOMS, **{name: {"function": f":{name}"}})
    assert values(scorer, name, [group(["x+1"], answer="1+x"), group(["1+x"], answer="x+1")]) == [expected] * 2


def test_what_is_printed_goes_to_stderr(scorer_of: Any, group: MakeGroup, capfd: pytest.CaptureFixture[str]) -> None:
    scorer = scorer_of(IDIOMS, printing={"function": ":printing"})
    values(scorer, "printing", [group(["lone \ud800 surrogate"])])
    out, err = capfd.readouterr()
    assert out == ""
    assert {"raw noise", "noise on stderr"} < set(err.splitlines())
    assert "noise on stdout" in err


def test_functions_of_a_file_share_its_globals(scorer_of: Any, group: MakeGroup) -> None:
    names = ("remember", "remembered", "where")
    scorer = scorer_of(
        IDIOMS, other={"function": ":where", "processes": 2}, **{name: {"function": f":{name}"} for name in names}
    )
    scored = scorer.score([group(["a"]) for _ in range(3)])
    assert [one.by_reward["remember"][0] for one in scored] == [1.0, 2.0, 3.0]
    assert scorer.score([group(["a"])])[0].by_reward["remembered"][0] == 4.0
    shared = {one.by_reward["where"][0] for one in scored}
    assert len(shared) == 1
    assert shared.isdisjoint({float(os.getpid()), *(one.by_reward["other"][0] for one in scored)})


def test_a_function_may_stay_in_the_trainer(scorer_of: Any, group: MakeGroup) -> None:
    scorer = scorer_of(IDIOMS, where={"function": ":where", "where": "trainer"})
    assert values(scorer, "where", [group(["a"])]) == [float(os.getpid())]


WAITING = """
import asyncio, time
""" + "".join(f"def f{i}(completions):\n    time.sleep(0.1)\n    return [1.0] * len(completions)\n" for i in range(8))
WAITING += "async def judge(completions):\n    await asyncio.sleep(0.8)\n    return [1.0] * len(completions)\n"


@pytest.mark.parametrize("where", ["process", "trainer"])
def test_waiting_for_a_turn_is_not_running(scorer_of: Any, group: MakeGroup, where: str) -> None:
    rewards = {f"f{i}": {"function": f":f{i}", "where": where} for i in range(8)}
    judge = {"function": ":judge", "where": where}
    scorer = scorer_of(WAITING, limit_s=2.5, scoring={"concurrency": 1}, judge=judge, **rewards)
    scored = scorer.score([group(["a"]) for _ in range(4)])  # 3.2 s of sleep in all, and as much for the judge
    assert all(one.rewards[0] == 9.0 for one in scored)


LOSING = """
import asyncio, os, signal, sys, time

seen = 0

def fate(completions, **kwargs):
    global seen
    seen += 1
    word = completions[0]
    if word == "hang":
        time.sleep(10_000)
    if word == "backtrack":
        import re
        re.match(r"(a+)+$", "a" * 64 + "b")
    if word == "exit":
        os._exit(3)
    if word == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if word == "grow":
        block = []
        while True:
            block.append(bytearray(os.urandom(1 << 20)) * 16)
    if word == "refused":
        raise MemoryError
    if word == "orphan" and os.fork() == 0:
        time.sleep(10_000)
    if word == "orphan":
        os._exit(3)
    return [float(seen)] * len(completions)

def calm(completions, **kwargs):
    return [1.0] * len(completions)

async def nap(completions, **kwargs):
    if completions[0] == "hang":
        await asyncio.sleep(10_000)
    if completions[0] == "block":
        time.sleep(10_000)
    await asyncio.sleep(0.01)
    return [1.0] * len(completions)
"""


@pytest.mark.parametrize(
    ("word", "count"),
    [("hang", "timeouts"), ("backtrack", "timeouts"), ("exit", "crashes"), ("segfault", "crashes"),
     ("grow", "crashes"), ("refused", "crashes"), ("orphan", "crashes")],
)  # fmt: skip
def test_a_lost_process_costs_one_call(
    scorer_of: Any, group: MakeGroup, word: str, count: str, caplog: pytest.LogCaptureFixture
) -> None:
    limit_s = 3.0 if count == "timeouts" else HANG_S
    scoring = {"function_memory_mb": 400}
    scorer = scorer_of(LOSING, limit_s=limit_s, scoring=scoring, fate={"function": ":fate"}, calm={"function": ":calm"})
    groups = [group([each, "b"]) for each in ("a", word, "c", "d")]
    for one in groups:
        scorer.submit(one)
    scored = scorer.score(groups)
    np.testing.assert_array_equal([one.by_reward["fate"][1] for one in scored], [1.0, np.nan, 1.0, 2.0])  # a new one
    assert all(one.by_reward["calm"].tolist() == [1.0, 1.0] for one in scored)
    metrics = scorer.drain_metrics()
    assert metrics[f"reward/fate/{count}"] == 1
    assert metrics["reward/fate/lost"] == 0.25, "both completions of one of four groups"
    assert metrics["reward/calm/timeouts"] == metrics["reward/calm/crashes"] == 0
    assert any(message.startswith("reward 'fate' ") for message in caplog.messages)


@pytest.mark.parametrize("where", ["process", "trainer"])
def test_a_coroutine_that_hangs_costs_one_call(scorer_of: Any, group: MakeGroup, where: str) -> None:
    scorer = scorer_of(LOSING, limit_s=2.0, nap={"function": ":nap", "where": where})
    found = values(scorer, "nap", [group([word]) for word in ("a", "hang", "c", "d")])
    np.testing.assert_array_equal(found, [1.0, np.nan, 1.0, 1.0])
    assert scorer.drain_metrics()["reward/nap/timeouts"] == 1


def test_a_coroutine_that_blocks_its_loop_is_killed(scorer_of: Any, group: MakeGroup) -> None:
    scorer = scorer_of(
        LOSING, limit_s=2.0, scoring={"concurrency": 1}, nap={"function": ":nap"}, calm={"function": ":calm"}
    )
    found = values(scorer, "nap", [group([word]) for word in ("a", "block", "c")])
    np.testing.assert_array_equal(found, [1.0, np.nan, 1.0])


def test_losing_every_call_ends_the_run(scorer_of: Any, group: MakeGroup) -> None:
    scorer = scorer_of(LOSING, scoring={"max_lost": 3}, fate={"function": ":fate"})
    with pytest.raises(RewardError, match=r"'fate' ended its process on one group, the last of 3 lost calls in a row"):
        scorer.score([group([word]) for word in ("exit", "a", "exit", "exit", "exit", "a")])


def test_a_process_that_a_scheduler_ends_is_started_again(scorer_of: Any, group: MakeGroup) -> None:
    code = """
import os, signal, time
from pathlib import Path
marker = Path(__file__).with_name("marker")
def ended(completions):
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10_000)
    return [1.0] * len(completions)
"""
    scorer = scorer_of(code, ended={"function": ":ended"})
    assert values(scorer, "ended", [group(["a"])]) == [1.0]
    assert scorer.drain_metrics()["reward/ended/crashes"] == 0


def test_columns_and_extras_on_their_way(scorer_of: Any, group: MakeGroup) -> None:
    code = """
import datetime
def typed(completions, when, log_extra):
    log_extra("when", when)
    log_extra("nested", [{"a": float("nan")} for _ in completions])
    return [float(one.year) for one in when]
"""
    import datetime

    scorer = scorer_of(code, typed={"function": ":typed"})
    scored = scorer.score([group(["a"], when=datetime.date(2025, 1, 22))])[0]
    assert scored.by_reward["typed"].tolist() == [2025.0]
    assert scored.extras["when"] == ["2025-01-22"]
    with pytest.raises(RewardError, match=r"column cannot be sent to a reward's process .*set where: trainer"):
        scorer.score([group(["a"], when=threading.Lock())])


def test_leaving_python_is_an_error_of_the_function(scorer_of: Any, group: MakeGroup) -> None:
    code = "import sys\ndef leaving(completions):\n    sys.exit('no key')\n"
    scorer = scorer_of(code, leaving={"function": ":leaving"})
    with pytest.raises(RewardError, match=r"'leaving' raised SystemExit at rewards.py:3: no key"):
        scorer.score([group(["a"])])


SCRIPT = """
import os, sys, time
from pathlib import Path
import numpy as np
from r1rl.config.rewards import RewardConfig, ScoringConfig
from r1rl.scoring import Scorer
from r1rl.types import Completion, Group, Problem

rewards = {"pid": RewardConfig(function="theirs.py:pid"), "spin": RewardConfig(function="other.py:spin")}
scorer = Scorer(rewards, ScoringConfig())
group = Group(Problem("p", (), "q"), [Completion(np.zeros(0), np.zeros(0), "a", "stop")])
scorer.submit(group)
while not Path("child").exists() or not Path("child").read_text():
    time.sleep(0.02)
print(scorer.host_pid(), Path("child").read_text(), flush=True)
if sys.argv[1] == "stay":
    time.sleep(1000)
"""  # without ``if __name__ == "__main__"``

THEIRS = """
import os, subprocess, sys
def pid(completions):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True)
    with open("child", "w") as file:
        file.write(f"{os.getpid()} {child.pid}")
    return [1.0] * len(completions)
"""


@pytest.mark.integration
@pytest.mark.parametrize("end", ["leave", "stay"])
def test_nothing_outlives_the_trainer(tmp_path: Path, end: str) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "theirs.py").write_text(THEIRS)
    (tmp_path / "other.py").write_text("import re\ndef spin(completions):\n    re.match(r'(a+)+$', 'a' * 64 + 'b')\n")
    trainer = subprocess.Popen(
        [sys.executable, "script.py", end], cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert trainer.stdout is not None
    pids = [int(pid) for pid in trainer.stdout.readline().split()]
    assert len(pids) == 3
    if end == "stay":
        trainer.send_signal(signal.SIGKILL)
    trainer.wait(HANG_S)
    wait_for_the_end_of(pids)


def test_closing_ends_what_functions_started(scorer_of: Any, group: MakeGroup, tmp_path: Path) -> None:
    code = THEIRS.replace('"child"', repr(str(tmp_path / "child")))
    scorer = scorer_of(code, pid={"function": ":pid"})
    values(scorer, "pid", [group(["a"])])
    pids = [scorer.host_pid(), *map(int, (tmp_path / "child").read_text().split())]
    scorer.close()
    wait_for_the_end_of(pids)


def test_looking_for_functions_imports_nothing_here(tmp_path: Path) -> None:
    marker, path = tmp_path / "pid", tmp_path / "heavy.py"
    path.write_text(
        f"import os\nopen({str(marker)!r}, 'w').write(str(os.getpid()))\n"
        "class Model:\n    def __init__(self, path):\n        raise OSError(path)\n"
    )
    look_for({"model": RewardConfig(function=f"{path}:Model", args={"path": "made later"}), "accuracy": RewardConfig()})
    assert int(marker.read_text()) != os.getpid()
    with pytest.raises(RewardError, match="has no 'Modle'; did you mean 'Model'"):
        look_for({"model": RewardConfig(function=f"{path}:Modle")})


def test_processes_of_what_stays_in_the_trainer() -> None:
    with pytest.raises(ValueError, match="processes cannot be set with where: trainer"):
        RewardConfig(function="a:b", where="trainer", processes=2)
