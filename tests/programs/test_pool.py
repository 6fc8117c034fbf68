"""The pool with programs that mean no harm, and its own life: limits, input, two programs that talk, ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from r1rl.errors import SandboxError
from r1rl.programs import isolation
from r1rl.programs.languages import available
from r1rl.programs.pool import SandboxPool
from r1rl.programs.roots import PREFIX
from r1rl.programs.types import Interactive, Program, ProgramLimits, ProgramVerdict, Runner
from tests.support.sandboxes import WAYS, cannot, public_folder
from tests.support.sandboxes import isolation as isolation_of
from tests.support.waits import HANG_S, until

pytestmark = pytest.mark.skipif(bool(cannot()), reason=f"programs cannot be isolated here: {cannot()}")
QUICK = ProgramLimits(cpu_s=1, wall_s=3)


@pytest.fixture(scope="module", params=WAYS)
def pool(request: pytest.FixtureRequest) -> Iterator[SandboxPool]:
    way = isolation_of(request.param)
    if isinstance(way, str):
        pytest.skip(f"{request.param}: {way}")
    with SandboxPool(isolation=way) as made:
        yield made


@pytest.fixture
def folder() -> Iterator[Path]:
    with public_folder() as made:
        yield made


def test_it_is_a_runner(pool: SandboxPool) -> None:
    runner: Runner = pool
    assert isinstance(runner, Interactive)
    assert "python" in runner.languages


def test_a_program_reads_and_writes(pool: SandboxPool) -> None:
    execution = pool.run(Program("import sys\nprint(input()[::-1])\nprint('aside', file=sys.stderr)"), "olleh\nrest")
    assert (execution.stdout, execution.stderr, execution.failure, execution.exit_code) == (
        "hello\n",
        "aside\n",
        None,
        0,
    )
    assert execution.wall_s > 0


def test_it_is_a_main_program(pool: SandboxPool) -> None:
    source = """
        import sys
        if __name__ == "__main__":
            print(sys.argv, __file__, open(0).read())
        exit(0)
    """
    assert pool.run(Program(textwrap.dedent(source)), "x").stdout == "['program.py'] program.py x\n"


def test_the_standard_library_is_there(pool: SandboxPool) -> None:
    modules = (
        "array, asyncio, bisect, cmath, collections, copy, ctypes, dataclasses, datetime, decimal, fractions, "
        "functools, hashlib, heapq, io, itertools, json, math, numbers, operator, random, re, resource, statistics, "
        "string, struct, textwrap, threading, time, typing, unittest, zlib"
    )
    assert pool.run(Program(f"import {modules}\nprint(asyncio.run(asyncio.sleep(0, 'ok')))")).stdout == "ok\n"


def test_threads_with_large_stacks(pool: SandboxPool) -> None:
    source = """
        import sys, threading
        sys.setrecursionlimit(10 ** 6)
        threading.stack_size(128 << 20)
        def depth(n):
            return 0 if n == 0 else 1 + depth(n - 1)
        thread = threading.Thread(target=lambda: print(depth(50_000)))
        thread.start()
        thread.join()
    """
    assert pool.run(Program(textwrap.dedent(source))).stdout == "50000\n"


def test_large_input_and_output(pool: SandboxPool) -> None:
    text = "x" * (5 << 20)
    limits = ProgramLimits(output_kb=8 << 10)
    assert pool.run(Program("print(input(), end='')"), text, limits).stdout == text
    assert pool.run(Program("print('done')"), text).stdout == "done\n"  # it reads none of it


def test_text_is_never_an_error(pool: SandboxPool) -> None:
    assert pool.run(Program("print('\ud800' + input())"), "\udfff").failure is None
    assert pool.run(Program("")).failure is None
    assert pool.run(Program("import sys; sys.stdout.buffer.write(b'\\xff\\x00')")).stdout == "\ufffd\0"


def test_failures_have_names(pool: SandboxPool) -> None:
    failures = {
        "1 / 0": ProgramVerdict.RUNTIME_ERROR,
        "raise SystemExit(3)": ProgramVerdict.RUNTIME_ERROR,
        "def f(:": ProgramVerdict.COMPILE,
        "x = bytearray(1 << 33)": ProgramVerdict.MEMORY,
        "while True: print('x' * 999)": ProgramVerdict.OUTPUT,
        "import time; time.sleep(999)": ProgramVerdict.TIME,
        "while True: pass": ProgramVerdict.TIME,
        "import os; os.fork()": ProgramVerdict.FORBIDDEN,
    }
    running = {source: pool.submit(Program(source), limits=QUICK) for source in failures}
    assert {source: future.result().failure for source, future in running.items()} == failures


def test_processor_time_is_measured_to_less_than_a_second(pool: SandboxPool) -> None:
    source = "import time\nwhile time.process_time() < 0.6:\n    pass\nprint('done')"
    limits = ProgramLimits(cpu_s=0.3, wall_s=60)
    assert pool.run(Program(source), limits=limits).failure is ProgramVerdict.TIME
    assert pool.run(Program(source), limits=ProgramLimits(cpu_s=30, wall_s=120)).failure is None


def test_the_same_order_of_sets_in_every_execution(pool: SandboxPool) -> None:
    source = Program("print(hash('a'), set('abcdefgh'))")
    assert pool.run(source).stdout == pool.run(source).stdout


def test_one_program_each(pool: SandboxPool) -> None:
    patch = "import builtins, os\nopen('/tmp/left', 'w').close()\nbuiltins.print = None\nos.environ['LEFT'] = '1'"
    assert pool.run(Program(patch)).failure is None
    look = Program("import os\nprint(os.listdir('/tmp'), dict(os.environ))")
    assert {pool.run(look).stdout for _ in range(4)} == {"[] {}\n"}


# ------------------------------------------------------------------------------------------------ C++


def needs_cpp() -> None:
    if "cpp" not in available():
        pytest.skip("g++ is not installed")


def test_cpp(pool: SandboxPool) -> None:
    needs_cpp()
    twice = Program("#include <iostream>\nint main() { long a; std::cin >> a; std::cout << a * 2; }", "cpp")
    futures = [pool.submit(twice, str(n)) for n in range(5)]
    assert [future.result().stdout for future in futures] == ["0", "2", "4", "6", "8"]
    broken = pool.run(Program("int main() { return x; }", "cpp"))
    assert broken.failure is ProgramVerdict.COMPILE
    assert "'x' was not declared" in broken.stderr
    crash = pool.run(Program("int main() { return *(volatile int *)0; }", "cpp"))
    assert (crash.failure, crash.exit_code) == (ProgramVerdict.RUNTIME_ERROR, -signal.SIGSEGV)


def test_deep_recursion_in_cpp(pool: SandboxPool) -> None:
    needs_cpp()
    source = "#include <cstdio>\nint f(int n) { volatile int x = n; return n ? f(n - 1) + (x > 0) : 0; }\n"
    assert pool.run(Program(source + 'int main() { printf("%d", f(1000000)); }', "cpp")).stdout == "1000000"


# ------------------------------------------------------------------------------------------------ two programs


def test_a_judge_asks_a_program(pool: SandboxPool) -> None:
    judge = """
        for n, expected in [(2, 4), (7, 49)]:
            print(n, flush=True)
            assert int(input()) == expected
    """
    square = "while True:\n    print(int(input()) ** 2, flush=True)"
    first, second = pool.interact(Program(textwrap.dedent(judge)), Program(square)).result()
    assert first.failure is None
    assert second.failure in (None, ProgramVerdict.RUNTIME_ERROR)  # it may see the end of its input first
    first, _ = pool.interact(Program(textwrap.dedent(judge)), Program(square.replace("2", "3"))).result()
    assert first.failure is ProgramVerdict.RUNTIME_ERROR


def test_a_program_cannot_see_or_outlive_its_judge(pool: SandboxPool) -> None:
    judge = Program("answer = 42\nassert input() == '0'")
    spy = "import gc\nprint(sum('answer' in o for o in gc.get_objects() if isinstance(o, dict)), flush=True)\n"
    first, second = pool.interact(judge, Program(spy + "import time\ntime.sleep(999)"), QUICK).result()
    assert (first.failure, second.failure, second.exit_code) == (None, None, None)


def test_a_judge_sees_the_end_of_a_program(pool: SandboxPool) -> None:
    judge = Program("import sys\nassert sys.stdin.read() == ''\nsys.exit(9)")
    first, second = pool.interact(judge, Program("1 / 0")).result()
    assert (first.exit_code, second.failure) == (9, ProgramVerdict.RUNTIME_ERROR)


def test_two_that_wait_for_each_other_are_stopped(pool: SandboxPool) -> None:
    first, second = pool.interact(Program("input()"), Program("input()"), QUICK).result()
    assert first.failure is second.failure is ProgramVerdict.TIME


def test_two_of_which_one_does_not_compile(pool: SandboxPool) -> None:
    first, second = pool.interact(Program("input()"), Program("def"), QUICK).result()
    assert first.failure is ProgramVerdict.RUNTIME_ERROR
    assert second.failure is ProgramVerdict.COMPILE


# ------------------------------------------------------------------------------------------------ the pool's own life


def test_a_sandbox_killed_from_outside_is_replaced(pool: SandboxPool) -> None:
    assert pool.run(Program("print(1)")).failure is None
    waiting = psutil.Process().children()
    for child in waiting:
        child.kill()  # those that wait for a program
    until(lambda: all(child.status() == psutil.STATUS_ZOMBIE for child in waiting), "the kernel to end them")
    assert [pool.run(Program("print(2)")).stdout for _ in range(4)] == ["2\n"] * 4


def test_an_unknown_language(pool: SandboxPool) -> None:
    with pytest.raises(SandboxError, match="no language is called 'cobol'; there are: python, cpp"):
        pool.submit(Program("", "cobol"))


def test_closing_ends_what_runs() -> None:
    pool = SandboxPool(workers=1)
    running, waiting = (pool.submit(Program("import time; time.sleep(999)"), limits=ProgramLimits(wall_s=HANG_S)),) * 2
    until(lambda: running.running(), "the program to start")
    own = pool._roots.folder
    pool.close()
    assert running.done()
    assert waiting.done()
    assert not own.exists()
    with pytest.raises(SandboxError, match="closed"):
        pool.run(Program("print(1)"))


def test_a_killed_owner_leaves_nothing(folder: Path) -> None:
    script = """
        import sys, time
        from r1rl.programs.pool import SandboxPool
        from r1rl.programs.types import Program, ProgramLimits
        pool = SandboxPool(limits=ProgramLimits(wall_s=600))
        pool.run(Program("print(1)"))
        pool.submit(Program("import time; time.sleep(600)"))
        print("running", flush=True)
        time.sleep(600)
    """
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, env=environment, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "running\n"
        below = psutil.Process(owner.pid).children(recursive=True)
        owner.kill()
    assert below
    until(lambda: not any(process.is_running() for process in below), "the sandboxes to end")
    assert list(folder.glob(f"{PREFIX}*"))


def test_the_folder_of_a_killed_owner_is_removed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    abandoned, foreign = folder / f"{PREFIX}abandoned", folder / f"{PREFIX}foreign"
    for one in (abandoned, foreign):
        one.mkdir()
        (one / "file").touch()
    (abandoned / "in-use").touch()
    with SandboxPool(workers=1) as used, SandboxPool(workers=1) as other:
        assert not abandoned.exists()
        assert foreign.exists()
        assert used.run(Program("print(1)")).stdout == other.run(Program("print(1)")).stdout
    assert [one.name for one in folder.iterdir()] == [foreign.name]


def test_without_isolation_it_refuses_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation.shutil, "which", lambda name: None)
    monkeypatch.setattr(isolation.Namespaces, "missing", lambda self: "not here")
    with pytest.raises(SandboxError) as refused:
        SandboxPool()
    said = str(refused.value)
    assert "bubblewrap: bwrap is not installed; user namespaces: not here" in said
    assert "apt install bubblewrap" in said


def test_where_user_namespaces_are_forbidden_it_refuses_to_start() -> None:
    if isinstance(isolation_of("bubblewrap"), str):
        pytest.skip("bubblewrap does not work here")
    script = "from r1rl.programs.pool import SandboxPool\nSandboxPool()"
    locked = ["bwrap", "--dev-bind", "/", "/", "--unshare-user", "--disable-userns", sys.executable, "-c", script]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(locked, capture_output=True, text=True, env=environment, timeout=HANG_S)
    assert "SandboxError: programs cannot be isolated on this machine (bubblewrap: " in run.stderr
    assert "user namespaces: " in run.stderr


def test_a_way_that_does_not_isolate_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    start = isolation._popen

    def leaky(command: list[str], *rest: Any, **user: Any) -> Any:
        shared = [part for part in command if part not in ("--unshare-pid", "--as-pid-1") or command[0] != "bwrap"]
        return start(shared, *rest, **user)

    monkeypatch.setattr(isolation, "_popen", leaky)
    reason = ""
    try:
        with SandboxPool(workers=1) as pool:
            assert pool.isolation.name == "user namespaces"
    except SandboxError as error:
        reason = str(error)
    assert not reason or "bubblewrap: other processes are in sight" in reason
