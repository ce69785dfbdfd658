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

import jaxtyping
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


class Checks:
    """The checks of one function: each raises a TypeError, as typeguard does."""

    def __init__(self, function):
        self.memo = typeguard._TypeCheckMemo(function.__globals__, {})
        self.hints = {name: named(hint, function) for name, hint in function.__annotations__.items()}
        self.fast = {name: certainly(hint) for name, hint in self.hints.items()}
        parameters = inspect.signature(function).parameters.values()
        kinds = inspect.Parameter
        by_place = kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD
        by_name = kinds.KEYWORD_ONLY, kinds.POSITIONAL_OR_KEYWORD
        self.positional = [one.name for one in parameters if one.kind in by_place]
        self.keyword = {one.name for one in parameters if one.kind in by_name}
        self.further = next((one.name for one in parameters if one.kind is kinds.VAR_POSITIONAL), "")
        self.others = next((one.name for one in parameters if one.kind is kinds.VAR_KEYWORD), "")

    def check(self, name, value, of=None):
        if not self.fast.get(name, always)(value):
            check_any_type(of or f'argument "{name}"', value, self.hints[name], self.memo)

    def arguments(self, args, kwargs):
        for name, value in zip(self.positional, args, strict=False):
            self.check(name, value)
        for value in args[len(self.positional) :]:
            self.check(self.further, value)
        for name, value in kwargs.items():
            self.check(name if name in self.keyword else self.others, value)

    def result(self, value):
        if value is not NotImplemented:  # of a comparison
            self.check("return", value, "the return value")


def checked(function):
    """The decorator that jaxtyping puts on functions without a body, one of a call's arguments and one of its result.

    The latter returns what it is given and names the type of that; its other arguments have been checked before.
    """
    checks = Checks(function)
    if checks.hints.get("return", Any) is Any:
        return lambda *args, **kwargs: checks.arguments(args, kwargs)

    def result(*args, **kwargs):
        value = function(*args, **kwargs)
        checks.result(value)
        return value

    return result


with_shapes = jaxtyping.jaxtyped


def jaxtyped(function=None, *, typechecker):
    """jaxtyping's decorator, which makes a scope for names of axes at each call, where annotations have such names.

    Other functions get their types checked alone; what is wrong with arguments, jaxtyping's wrapper tells.
    """
    if function is None:
        return functools.partial(jaxtyped, typechecker=typechecker)
    checks = Checks(function) if inspect.isfunction(function) else None
    if checks is None or any(map(has_axes, checks.hints.values())):
        return with_shapes(function, typechecker=typechecker)

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        __tracebackhide__ = True
        if jaxtyping.config.jaxtyping_disable:
            return function(*args, **kwargs)
        try:
            checks.arguments(args, kwargs)
            fits = True
        except TypeError:
            fits = False
        if not fits:
            return with_shapes(function, typechecker=typechecker)(*args, **kwargs)
        value = function(*args, **kwargs)
        try:
            checks.result(value)
        except TypeError as error:
            raise jaxtyping.TypeCheckError(f"{function.__module__}.{function.__qualname__}: {error}") from None
        return value

    return wrapped


def parts(hint):
    """The types that a type is made of; the values of a Literal are none."""
    if typing.get_origin(hint) is typing.Literal:
        return ()
    return (*typing.get_args(hint), *(getattr(hint, "__args__", None) or ()))


def has_axes(hint):
    return hasattr(hint, "dim_str") or any(map(has_axes, parts(hint)))


def has_names(hint):
    return isinstance(hint, str | typing.ForwardRef) or any(map(has_names, parts(hint)))


def named(hint, function):
    """A type that is given by name, as jaxtyping takes it: anything, where the name means nothing yet."""
    if hint is None:
        return type(None)
    return jaxtyping._decorator._destring_annotation(hint, function.__globals__) if has_names(hint) else hint


jaxtyping.jaxtyped = jaxtyped  # what the import hook puts on every function
