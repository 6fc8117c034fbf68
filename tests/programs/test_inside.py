"""What goes between the program and its tests: plain data, whole or not at all."""

import json
import math
from collections import Counter, OrderedDict, namedtuple
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1rl.programs.inside import NotPlain, Opaque, decode, encode

_HASHABLE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
_VALUES = st.recursive(
    _HASHABLE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_HASHABLE, inner, max_size=3) | st.sets(_HASHABLE),
    max_leaves=8,
)


@given(_VALUES)
def test_plain_data_arrives_as_it_was_sent(value: Any) -> None:
    arrived = decode(json.loads(json.dumps(encode(value))))
    assert arrived == value
    assert type(arrived) is type(value)


@pytest.mark.parametrize(
    "value", [[10**5000], [-(10**5000)], math.inf, -math.inf, 1 + 2j, range(1, 9, 2), [(1, {2})]], ids=type
)
def test_values_that_json_lacks(value: Any) -> None:
    assert decode(json.loads(json.dumps(encode(value)))) == value


def test_nan_and_subclasses_arrive_as_plain_types() -> None:
    assert math.isnan(decode(encode(math.nan)))
    Point = namedtuple("Point", "x y")
    for value, plain in ((Point(1, 2), tuple), (Counter("aab"), dict), (OrderedDict(a=1), dict)):
        assert type(decode(encode(value))) is plain


def test_what_a_class_overrides_does_not_decide_what_is_sent() -> None:
    class Always(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

        def __int__(self) -> int:
            return 42

    assert decode(encode(Always(7))) == 7
    assert decode(encode(Always(7))) != 42


def test_other_objects_stay_where_they_are() -> None:
    kept: list[Any] = []

    def keep(value: Any) -> int:
        kept.append(value)
        return len(kept) - 1

    thing = object()
    found = decode(encode([thing], keep))
    assert isinstance(found[0], Opaque)
    assert kept == [thing]
    assert found[0] != 1
    with pytest.raises(NotPlain):
        encode(thing)


def test_a_structure_without_end_is_not_sent() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValueError):
        encode(endless)
