"""The checker of types accepts nothing that typeguard refuses, and the package is under it."""

import collections.abc as c
import typing
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
import typeguard
from jaxtyping import Float, TypeCheckError
from torch import Tensor, nn
from typechecks import certainly, check_any_type, checked, has_axes, jaxtyped, named

from msafusion.fusion.pooling import position_mean
from msafusion.streams import nearest

HINTS = {
    **{str(one): one for one in (int, float, complex, str, bytes, bool, list, tuple, dict, type(None))},
    **{str(one): one for one in (list[int], list[int | str], list["int"], tuple[int, ...], tuple[int, str], tuple[()])},
    **{str(one): one for one in (dict[str, int], dict[str, float], c.Mapping[str, int], c.Sequence[int], set[int])},
    **{str(one): one for one in (type[nn.Module], typing.Literal["a", 1], int | None, typing.Optional[list[str]])},  # noqa: UP045
    **{str(one): one for one in (Float[Tensor, "a b"], Float[Tensor, "3"] | None, Tensor, nn.Module, np.ndarray)},
    **{str(one): one for one in (c.Callable[[int], int], c.Iterable[int], dict[str, Tensor], tuple[tuple[int], int])},
}
VALUES = [
    *(None, 1, 1.5, True, "a", b"a", bytearray(b"a"), 3j, int, nn.Linear, len, lambda x: x, {1}, {"a"}, Path("x")),
    *([], [1], ["a"], [1, "a"], [1] * 40, ["a"] + [1] * 40, (), (1,), (1, 2), (1, "a"), ((1,), 2), range(3)),
    *({}, {"a": 1}, {1: "a"}, {"a": 1.5}, np.zeros(3), np.float32(1), torch.zeros(3), torch.zeros(2, 3)),
    *({"a": torch.zeros(1)}, torch.ones(2, 3, dtype=torch.int), nn.Linear(1, 1)),
]


@pytest.mark.parametrize("hint", HINTS.values(), ids=HINTS)
def test_what_is_accepted_fast_typeguard_accepts_too(hint):
    memo, accepted = typeguard._TypeCheckMemo({}, {}), 0
    for value in VALUES:
        if certainly(hint)(value):
            check_any_type("value", value, hint, memo)
            accepted += 1
    assert accepted < len(VALUES)


def test_arguments_and_results_of_another_type_are_refused():
    def join(one: int, *further: str, last: dict[str, int] | None = None, **others: float): ...

    check = checked(join)
    check(1, "a", last={"a": 1}, other=1.0)
    for args, kwargs in [(("a",), {}), ((1, 2), {}), ((1,), {"last": {"a": "b"}}), ((1,), {"other": "a"})]:
        with pytest.raises(TypeError):
            check(*args, **kwargs)

    def give(*, value) -> list[int]:
        return value

    assert checked(give)(value=[1]) == [1]
    with pytest.raises(TypeError):
        checked(give)(value=["a"])


def test_the_package_is_checked_with_and_without_axes():
    with pytest.raises(TypeCheckError, match="name"):
        nearest(3, ["a"])
    with pytest.raises(TypeCheckError, match="feature"):
        position_mean(torch.ones(2))


def test_results_are_checked_and_a_switch_turns_checks_off(monkeypatch):
    @jaxtyped(typechecker=checked)
    def give(value: object) -> list[int]:
        return value

    assert give([1]) == [1]
    with pytest.raises(TypeCheckError, match="return value"):
        give(["a"])
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    assert give(["a"]) == ["a"]


def test_functions_with_axes_are_left_to_jaxtyping():
    for hint in (Float[Tensor, "a"], list[Float[Tensor, "a"]], c.Callable[[Float[Tensor, "a"]], int]):
        assert has_axes(hint)
    for hint in (int, list[int], typing.Literal["a"], Tensor, c.Callable[[int], int], dict[str, Tensor] | None):
        assert not has_axes(hint)


def test_types_by_name_are_looked_up_where_they_mean_something():
    def give(value): ...

    assert named("Path", give) is Path
    assert named(list["Path"], give) == list[Path]
    assert named("Later", give) is typing.Any
    assert named(None, give) is type(None)
    assert named(typing.Literal["Later"], give) == typing.Literal["Later"]
