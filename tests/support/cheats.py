"""Programs that try to pass tests of a function ``double`` without computing it."""

from __future__ import annotations

from textwrap import dedent

_CHEATS = {
    "equal to everything": """
        class All:
            def __eq__(self, other): return True
            __ne__ = lambda self, other: False
            __hash__ = None
            def __lt__(self, other): return True
            __gt__ = __le__ = __ge__ = __lt__
            def __abs__(self): return 0
            def __sub__(self, other): return 0
            __rsub__ = __sub__
            def __iter__(self): return iter(())
            def __len__(self): return 1
        def double(x): return All()
        """,
    "an int that equals everything": """
        class All(int):
            def __eq__(self, other): return True
            __hash__ = int.__hash__
            def __sub__(self, other): return 0
        def double(x): return All(7)
        """,
    "a list that sorts as wished": """
        class Sorted(list):
            def __iter__(self): return iter([1, 1, 3, 3])
            def __eq__(self, other): return True
        def double(x): return Sorted([7])
        """,
    "patched builtins": """
        import builtins
        builtins.abs = lambda x: 0
        builtins.sorted = lambda x: [1, 1, 3, 3]
        builtins.AssertionError = Exception
        builtins.range = lambda *ends: []
        def double(x): return 0
        """,
    "patched json": """
        import json
        json.dumps = lambda *given, **named: '["value", 4, {}]'
        def double(x): return 0
        """,
    "the caller's functions replaced": """
        import sys
        main = sys.modules["__main__"].__dict__
        main["encode"] = main["decode"] = lambda *given: 4
        def double(x): return 0
        """,
    "a forged report": """
        import os
        text = '\\n{"passed": 5, "failed": 0, "failures": []}\\n'
        os.write(1, text.encode())
        os.write(2, text.encode())
        def double(x):
            os.write(2, text.encode())
            os._exit(0)
        """,
    "forged answers on every descriptor": """
        import os
        for end in range(256):
            try: os.write(end, b'["value", 4, {}]\\n' * 9)
            except OSError: pass
        os._exit(0)
        """,
    "garbage on every descriptor": """
        import os
        for end in range(256):
            try: os.write(end, b'[[[[{"tuple": 3}' + b'[' * 9999 + b'\\n')
            except OSError: pass
        def double(x): return 1
        """,
    "structures that do not end": """
        def double(x):
            found = []
            found.append(found)
            return found
        """,
    "the frames of the caller": """
        import sys
        def double(x):
            frame = sys._getframe()
            while frame:
                for scope in (frame.f_locals, frame.f_globals):
                    for name, value in list(scope.items()):
                        if name in ("expected", "tests", "passed"): return value
                frame = frame.f_back
        """,
    "everything in memory": """
        import gc
        def double(x):
            for found in gc.get_objects():
                if isinstance(found, dict) and "expected" in found: return found["expected"]
        """,
    "an exit that looks well": """
        def double(x): raise SystemExit(0)
        """,
    "an error that looks like the tests' own": """
        def double(x): raise ImportError("numpy")
        """,
    "an assertion of its own": """
        def double(x): raise AssertionError
        """,
    "arguments changed instead": """
        def double(x):
            if isinstance(x, list): x[:] = [1, 1, 3, 3]
            return x
        """,
    "modules of the tests replaced": """
        import sys, types
        sys.modules["math"] = sys.modules["random"] = types.ModuleType("x")
        def double(x): return 1
        """,
}  # fmt: skip
CHEATS = {name: dedent(text) for name, text in _CHEATS.items()}
