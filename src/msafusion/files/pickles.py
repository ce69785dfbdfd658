"""A machine for pickles that runs none of Python's own: what a program may name and build is decided here.

Python's unpickler calls what a pickle names, sets attributes of what it built and nests as deeply as it is told, which
a few bytes turn into gigabytes or the end of the process. This one knows the operations that plain data need. Each
takes memory for its own bytes only, keys are plain values, and nothing that exists before is changed.
"""

import pickletools
from collections.abc import Callable
from typing import IO, Any, no_type_check

from msafusion.files.plain_data import PickleError, check_plain, kind_of
from msafusion.files.reading import max_size

MARK = object()


@no_type_check  # not in tests either, which would check every argument of every operation
class Machine:
    """Runs one pickle; subclasses say what names mean.

    Args:
        file: where the pickle begins.
        size: of the whole file (bytes), from which the bounds follow.
    """

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file, self.size = file, size
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.charged = 0

    def named(self, module: str, name: str) -> Any:
        """What stands for a name; refuses by default."""
        raise PickleError(f"it names {module}.{name}")

    def call(self, function: Any, arguments: tuple) -> Any:
        """The result of a call of what `named` gave."""
        raise PickleError(f"it calls {kind_of(function)}")

    def build(self, instance: Any, state: Any) -> None:
        """Give a state to an instance that `call` has made."""
        raise PickleError(f"it changes {kind_of(instance)}")

    def persistent(self, name: Any) -> Any:
        """What lies outside of the pickle."""
        raise PickleError("it refers to something outside of it")

    def finished(self, result: Any) -> None:
        """Look at the result before it is given."""
        check_plain(result, self.size)

    def charge(self, count: int) -> None:
        """Count bytes that are taken beside those of the program itself, as the memo can give the same ones again."""
        self.charged += count
        if self.charged > max_size(self.size):
            raise PickleError("it expands beyond the limit")

    def read(self, count: int) -> bytes:
        """So many bytes; a program that asks for more than the file has is refused before memory is taken."""
        if count > self.size:
            raise PickleError("it is cut off")
        return self.file.read(count)

    def readline(self) -> bytes:
        """For pickletools."""
        return self.file.readline()

    def tell(self) -> int:
        """For pickletools."""
        return self.file.tell()

    def run(self) -> Any:
        """The object that the pickle holds.

        Raises:
            PickleError: it is damaged, or asks for more than plain data.
        """
        stack: Any = self
        for operation, argument, _ in pickletools.genops(stack):
            name = operation.name
            if name == "STOP":
                result = self._pop()
                if self.stack:
                    raise PickleError("its end comes too early")
                self.finished(result)
                return result
            if (step := STEPS.get(name)) is None:
                raise PickleError(f"it uses {name}")
            step(self, argument)
        raise PickleError("it is cut off")

    def _pop(self) -> Any:
        if not self.stack:
            raise PickleError("it takes more than it has")
        return self.stack.pop()

    def pop(self) -> Any:
        """The topmost value."""
        value = self._pop()
        if value is MARK:
            raise PickleError("a mark stands where a value should")
        return value

    def top(self, kind: type) -> Any:
        """The topmost value, which stays and has a type."""
        if not self.stack or type(self.stack[-1]) is not kind:
            raise PickleError(f"a {kind.__name__} should stand where none does")
        return self.stack[-1]

    def marked(self) -> list[Any]:
        """All values down to the last mark."""
        place = len(self.stack) - 1
        while place >= 0 and self.stack[place] is not MARK:
            place -= 1
        if place < 0:
            raise PickleError("a mark is missing")
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def push(self, value: Any) -> None:
        """Put a value on top."""
        self.stack.append(value)

    def set_items(self, target: dict, values: list[Any]) -> None:
        """Keys and values, one after the other, into a dict."""
        if len(values) % 2:
            raise PickleError("a key has no value")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[_key(key)] = value

    def remember(self, place: Any) -> None:
        """Keep the topmost value in the memo."""
        if not self.stack or self.stack[-1] is MARK:
            raise PickleError("it keeps what is not there")
        self.memo[int(place)] = self.stack[-1]

    def recall(self, place: Any) -> None:
        """Put a value of the memo on top."""
        if int(place) not in self.memo:
            raise PickleError("it recalls what it never kept")
        self.push(self.memo[int(place)])

    def reduce(self) -> None:
        """Call what lies below its arguments."""
        arguments, function = self.pop(), self.pop()
        if type(arguments) is not tuple:
            raise PickleError("arguments are not a tuple")
        self.push(self.call(function, arguments))

    def stack_global(self) -> None:
        """A name whose two parts lie on top."""
        name, module = self.pop(), self.pop()
        if type(name) is not str or type(module) is not str:
            raise PickleError("a name is not text")
        self.push(self.named(module, name))

    def put_into_dict(self, values: list[Any]) -> None:
        """Into the topmost dict."""
        self.set_items(self.top(dict), values)

    def taken(self, count: int) -> tuple:
        """So many values from the top, in their order."""
        return tuple(self.pop() for _ in range(count))[::-1]

    def built(self) -> None:
        """Give a state to what lies below it."""
        state, instance = self.pop(), self.pop()
        self.build(instance, state)
        self.push(instance)


def _new_dict(machine: Machine) -> None:
    values, made = machine.marked(), {}
    machine.set_items(made, values)
    machine.push(made)


@no_type_check
def _text(machine: Machine, value: str) -> None:
    """Of Python 2: text where it is ASCII, else bytes, as nothing says how they are to be read."""
    machine.push(value if value.isascii() else value.encode("latin1"))


@no_type_check
def _number(machine: Machine, value: Any) -> None:
    machine.push(value)


Step = Callable[[Machine, Any], Any]
STEPS: dict[str, Step] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda m, a: None),
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"), _number),
    **dict.fromkeys(("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _number),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _number),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _text),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda m, a: m.remember(a)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda m, a: m.recall(a)),
    "MEMOIZE": lambda m, a: m.remember(len(m.memo)),
    "NONE": lambda m, a: m.push(None),
    "NEWTRUE": lambda m, a: m.push(True),
    "NEWFALSE": lambda m, a: m.push(False),
    "MARK": lambda m, a: m.push(MARK),
    "POP": lambda m, a: m._pop(),
    "POP_MARK": lambda m, a: m.marked(),
    "EMPTY_LIST": lambda m, a: m.push([]),
    "EMPTY_TUPLE": lambda m, a: m.push(()),
    "EMPTY_DICT": lambda m, a: m.push({}),
    "EMPTY_SET": lambda m, a: m.push(set()),
    "LIST": lambda m, a: m.push(m.marked()),
    "TUPLE": lambda m, a: m.push(tuple(m.marked())),
    "TUPLE1": lambda m, a: m.push(m.taken(1)),
    "TUPLE2": lambda m, a: m.push(m.taken(2)),
    "TUPLE3": lambda m, a: m.push(m.taken(3)),
    "DICT": lambda m, a: _new_dict(m),
    "FROZENSET": lambda m, a: m.push(frozenset(map(_key, m.marked()))),
    "APPEND": lambda m, a: (lambda value: m.top(list).append(value))(m.pop()),
    "APPENDS": lambda m, a: (lambda values: m.top(list).extend(values))(m.marked()),
    "ADDITEMS": lambda m, a: (lambda values: m.top(set).update(map(_key, values)))(m.marked()),
    "SETITEM": lambda m, a: m.put_into_dict(list(m.taken(2))),
    "SETITEMS": lambda m, a: m.put_into_dict(m.marked()),
    "GLOBAL": lambda m, a: m.push(m.named(*a.split(" ", 1))),
    "STACK_GLOBAL": lambda m, a: m.stack_global(),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), lambda m, a: m.reduce()),
    "BUILD": lambda m, a: m.built(),
    "PERSID": lambda m, a: m.push(m.persistent(a)),
    "BINPERSID": lambda m, a: m.push(m.persistent(m.pop())),
}
"""Operation -> what it does; old classes, keyword arguments and extensions are not among them."""


@no_type_check
def _key(value: Any) -> Any:
    """A value that can be a key: a plain one, or a tuple of plain ones, whose hash takes no more than its bytes."""
    plain = (str, bytes, int, float, bool, complex, type(None))
    if type(value) in plain or (type(value) is tuple and len(value) < 100 and all(type(v) in plain for v in value)):
        return value
    raise PickleError(f"{kind_of(value)} is a key")
