"""The checker of types for jaxtyping's import hook: typeguard's checks, of arguments and results, made cheap.

typeguard's own decorator binds the arguments of every call four times over, and checks them twice; a test of small
functions then takes ten times as long as what it tests.
"""

import collections.abc
import inspect
import types
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


def is_plain(hint):
    """`isinstance` alone decides."""
    return type(hint) is type and not issubclass(hint, tuple | float | complex | bytes | dict)


def checked(function):
    """The decorator that jaxtyping puts on functions without a body, one of a call's arguments and one of its result.

    The latter returns what it is given and names the type of that; its other arguments have been checked before.
    """
    memo = typeguard._TypeCheckMemo(function.__globals__, {})
    hints = {name: type(None) if hint is None else hint for name, hint in function.__annotations__.items()}
    plain = {name: is_plain(hint) for name, hint in hints.items()}

    def check(name, value, of=None):
        hint = hints.get(name, Any)
        if hint is not Any and not (plain[name] and isinstance(value, hint)):
            check_any_type(of or f'argument "{name}"', value, hint, memo)

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
