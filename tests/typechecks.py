"""The checker of types for jaxtyping's import hook: typeguard's checks, of arguments and results, made cheap.

typeguard's own decorator binds the arguments of every call four times over, and checks them twice; a test of small
functions then takes ten times as long as what it tests.
"""

import collections.abc
import functools
import inspect
import types
import typing
from typing import Any

import typeguard

check_type, check_sequence = typeguard.check_type.__wrapped__, typeguard.check_sequence
check_callable = typeguard.check_callable


def check_any_type(argname, value, expected_type, memo=None, **scope):
    """typeguard 2 does not know `X | Y`; jaxtyping's wrapper teaches it that slowly."""
    if type(expected_type) is types.UnionType:
        typeguard.check_union(argname, value, expected_type, memo)
    else:
        check_type(argname, value, expected_type, memo, **scope)


def check_some_elements(argname, value, expected_type, memo):
    """Of a whole data set its ends: every annotated call would read and check all of its samples anew."""
    if isinstance(value, collections.abc.Sequence) and (len(value) > 32 or not isinstance(value, list | tuple)):
        value = [value[index] for index in sorted({0, len(value) - 1}) if len(value)]
    check_sequence(argname, value, expected_type, memo)


def check_written_callable(argname, value, expected_type, memo):
    """The signature of what is written in Python: that of other functions is parsed from their documentation."""
    if hasattr(value, "__code__") or not callable(value):
        check_callable(argname, value, expected_type, memo)


typeguard.check_type = check_any_type
typeguard.origin_type_checkers[collections.abc.Sequence] = check_some_elements
typeguard.origin_type_checkers[collections.abc.Callable] = check_written_callable


def certainly(hint):
    """A function that says, fast, that a value is of the type; where it says no, typeguard decides, and tells why."""
    try:
        return _certainly(hint)
    except TypeError:  # not hashable
        return never


@functools.cache
def _certainly(hint):
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or (isinstance(hint, typing.TypeVar) and not hint.__bound__ and not hint.__constraints__):
        return always
    if origin in (typing.Union, types.UnionType):
        return any_of([certainly(one) for one in inner])
    if origin is typing.Literal:
        return lambda value: isinstance(value, str | int) and value in inner
    if origin is tuple and inner and inner[-1] is not Ellipsis:
        return each_of([certainly(one) for one in inner])
    if origin in (list, tuple, collections.abc.Sequence, set) and inner:
        return elements(origin, certainly(inner[0]))
    if origin is dict and inner:
        return items(certainly(inner[0]), certainly(inner[1]))
    if hint in (tuple, dict):
        return lambda value: isinstance(value, hint)
    if hint is float:
        return lambda value: isinstance(value, float | int)
    if getattr(hint, "_is_protocol", False):
        return (lambda value: isinstance(value, hint)) if getattr(hint, "_is_runtime_protocol", False) else always
    if origin is collections.abc.Callable:
        anything = inner[:1] in ((), (Ellipsis,))
        return lambda value: callable(value) and (anything or not hasattr(value, "__code__"))
    if origin is None and inspect.isclass(hint) and not is_special(hint):
        return lambda value: isinstance(value, hint)
    if origin is not None and origin not in typeguard.origin_type_checkers and inspect.isclass(origin):
        return certainly(origin)  # of `Mapping[str, int]`, as in typeguard, the elements are not looked at
    return never


def is_special(hint):
    """`isinstance` alone does not decide, in typeguard."""
    kinds = (tuple, float, complex, bytes, dict, typing.IO)
    return issubclass(hint, kinds) or hint.__module__ == "typing"


def always(value):
    return True


def never(value):
    return False


def any_of(tests):
    def test(value):
        return any(one(value) for one in tests)

    return test


def each_of(tests):
    def test(value):
        if not isinstance(value, tuple) or len(value) != len(tests):
            return False
        return all(one(element) for one, element in zip(tests, value, strict=True))

    return test


def elements(kind, of_type):
    """The elements that `check_some_elements` looks at, of what needs no reading."""

    def test(value):
        if not isinstance(value, kind) or not isinstance(value, list | tuple | set):
            return False
        if kind is collections.abc.Sequence and len(value) > 32:
            return of_type(value[0]) and of_type(value[-1])
        return all(map(of_type, value))

    return test


def items(of_key, of_value):
    def test(value):
        return isinstance(value, dict) and all(map(of_key, value)) and all(map(of_value, value.values()))

    return test


def checked(function):
    """The decorator that jaxtyping puts on functions without a body, one of a call's arguments and one of its result.

    The latter returns what it is given and names the type of that; its other arguments have been checked before.
    """
    memo = typeguard._TypeCheckMemo(function.__globals__, {})
    hints = {name: type(None) if hint is None else hint for name, hint in function.__annotations__.items()}
    fast = {name: certainly(hint) for name, hint in hints.items()}

    def check(name, value, of=None):
        if not fast.get(name, always)(value):
            check_any_type(of or f'argument "{name}"', value, hints[name], memo)

    if hints.get("return", Any) is not Any:

        def result(*args, **kwargs):
            value = function(*args, **kwargs)
            if value is not NotImplemented:  # of a comparison
                check("return", value, "the return value")
            return value

        return result

    parameters = inspect.signature(function).parameters.values()
    kinds = inspect.Parameter
    positional = [one.name for one in parameters if one.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
    keyword = {one.name for one in parameters if one.kind in (kinds.KEYWORD_ONLY, kinds.POSITIONAL_OR_KEYWORD)}
    further = next((one.name for one in parameters if one.kind is kinds.VAR_POSITIONAL), "")
    others = next((one.name for one in parameters if one.kind is kinds.VAR_KEYWORD), "")

    def arguments(*args, **kwargs):
        for name, value in zip(positional, args, strict=False):
            check(name, value)
        for value in args[len(positional) :]:
            check(further, value)
        for name, value in kwargs.items():
            check(name if name in keyword else others, value)

    return arguments
