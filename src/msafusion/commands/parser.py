"""The parser of every verb: it never imports a class that a file or an argument names, unless it is registered.

jsonargparse imports whatever a `class_path` names, and makes objects of it even where any value is allowed. Here all
import paths are denied but those that `class_names.allow_registered` allows, and what looks like an object among plain
values stays plain. The settings are jsonargparse's own, and hold for the whole process.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace, get_loader, set_loader, set_parsing_settings

from msafusion.files.yaml_file import check_bounds

MODE = "msafusion"
"""jsonargparse's name for YAML within bounds."""
DENIED = re.compile(r"(?:Importing '|Expected a dot import path string: )([\w.]+)")
UNKNOWN = re.compile(r"unrecognized arguments: (--[\w.\-]+)")
UNKNOWN_OF_CLASS = re.compile(r"class_path '[\w.]*?(\w+)': Option '(\w+)' is not accepted")
UNKNOWN_OF_GROUP = re.compile(r"Group '([\w.]+)' does not accept option '(\w+)'")
UNKNOWN_IN_FILE = re.compile(r"^Option '([\w.]+)' is not accepted")
"""How jsonargparse says that an option is unknown: on the command line, of a class, of a group, in a file."""
_load = get_loader("yaml")


def not_utf8(name: str) -> bool:
    """Whether a file's name is in another coding, for which Python puts lone surrogates."""
    return any("\ud800" <= letter <= "\udfff" for letter in name)


def _bounded(text: str) -> Any:
    if not_utf8(text):  # no YAML
        return text
    check_bounds(text)
    return _load(text)


set_loader(MODE, _bounded, exceptions=(yaml.YAMLError,))
set_parsing_settings(
    import_path_denylist=["*"],
    instantiate_subclass_spec_in_any=False,
    validate_subclass_spec_in_any=False,
    config_read_mode_urls_enabled=False,
    config_read_mode_fsspec_enabled=False,
)


def verb_parser(verb: str, description: str, *, loads: bool = True) -> ArgumentParser:
    """An empty parser of `msafusion <verb>`.

    Args:
        verb: its name, with the data set's where there is one.
        description: what it does.
        loads: it may load classes of the user's own, and has `--import`.
    """
    parser = ArgumentParser(
        prog=f"msafusion {verb}",
        exit_on_error=False,
        description=description,
        parser_mode=MODE,
        default_env=False,
        allow_abbrev=False,  # `--conf FILE` would not be looked at beforehand
    )
    if loads:
        parser.add_argument(
            "--import",
            type=list[str],
            default=[],
            metavar="MODULE",
            help="module with classes of your own, which are then known by name; may be repeated",
        )
    return parser


def parse(parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    """What the arguments say, with the modules of `--import` imported.

    Raises:
        ValueError: the parser refuses them; a file or an argument names a class that is not registered.
    """
    arguments = import_modules(arguments)
    files = config_files(arguments)
    where = " or ".join([*(f"'{file}'" for file in files), "the command line"])
    if files:
        from msafusion.commands.registered import OF_COMMAND, check_recipe

        for file in files:
            check_recipe(file)
        arguments = _last(arguments, OF_COMMAND)  # files may hold them unset, and later ones win
    try:
        given = parser.parse_args(arguments)
    except ArgumentError as error:
        text = " ".join(str(error).split())
        if denied := DENIED.search(text):
            from msafusion.commands.registered import unknown_class

            raise ValueError(unknown_class(denied[1], where)) from None
        text = _unknown_option(parser, text) or text
        raise ValueError(f"{text}{f' (from {where})' if files else ''}; see `{parser.prog} --help`.") from None
    if files or "data" in given:
        from msafusion.commands.registered import check_classes

        check_classes(given.as_dict(), where)
    return given


def _unknown_option(parser: ArgumentParser, text: str) -> str:
    """What is said of an option that does not exist, with the names most like it; empty: the error is another one."""
    if found := UNKNOWN.search(text):
        return f"unknown option {found[1]}; {_nearest_option(parser, found[1])}"
    if found := UNKNOWN_OF_GROUP.search(text):
        return f"unknown option {found[1]}.{found[2]}; {_nearest_option(parser, f'--{found[1]}.{found[2]}')}"
    if found := UNKNOWN_IN_FILE.search(text):
        return f"unknown option {found[1]}; {_nearest_option(parser, f'--{found[1]}')}"
    if found := UNKNOWN_OF_CLASS.search(text):
        from msafusion.commands.registered import options_of
        from msafusion.streams import nearest

        of_verb = {name for action in parser._actions for name in action.option_strings}
        own = f"--{found[2]}"  # `--data.folds` for `--folds`
        instead = f"did you mean {own}?" if own in of_verb else nearest(found[2], options_of(found[1]))
        return f"{found[1]} has no option '{found[2]}'; {instead}"
    return ""


def _nearest_option(parser: ArgumentParser, option: str) -> str:
    from msafusion.streams import nearest  # torch: seconds

    known = [name for action in parser._actions for name in action.option_strings if not name.endswith("+")]
    of_parts = [name for name in known if name.rpartition(".")[2] == option[2:]]  # `--epochs` of a stage
    return "did you mean " + " or ".join(map(repr, of_parts)) + "?" if of_parts else nearest(option, known)


def _last(arguments: Sequence[str], names: Sequence[str]) -> list[str]:
    """The arguments with the options of these names, and their values, behind all others."""
    options = tuple(f"--{name}" for name in names)
    rest, last = list[str](), list[str]()
    before = ""
    for argument in arguments:
        is_value = before in options and not argument.startswith("--")
        (last if is_value or argument.partition("=")[0] in options else rest).append(argument)
        before = argument
    return [*rest, *last]


def import_modules(arguments: Sequence[str]) -> list[str]:
    """The arguments after the modules of all their `--import` have been imported; these follow as one option.

    Raises:
        ValueError: one cannot be imported.
    """
    rest: list[str] = []
    words: list[str] = []
    left = iter(arguments)
    for argument in left:
        if argument == "--import":
            argument = f"--import={next(left, '')}"
        if argument.startswith("--import="):
            words += [word.strip(" '\"") for word in argument.removeprefix("--import=").strip("[]").split(",")]
        else:
            rest.append(argument)
    if not words:
        return rest
    from msafusion.commands.registered import allow_registered
    from msafusion.plugins import use

    use(words)
    allow_registered()
    return [*rest, f"--import=[{','.join(words)}]"]


def config_files(arguments: Sequence[str]) -> list[str]:
    """The files that the arguments name by --config."""
    files = [value for option, value in pairwise(arguments) if option == "--config"]
    return files + [one.removeprefix("--config=") for one in arguments if one.startswith("--config=")]
