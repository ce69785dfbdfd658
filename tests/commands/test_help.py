"""The short help names what the parsers have, and unknown options are told with the nearest ones."""

import re

import pytest

from msafusion import cli
from msafusion.commands.compare import compare_parser
from msafusion.commands.recipe_options import parse_recipe, train_parser
from msafusion.commands.short_help import SHORT_HELP, short_help
from msafusion.data.datasets import DATASETS
from msafusion.networks import NETWORKS

PARSERS = {"train": train_parser, "compare": compare_parser}


@pytest.mark.parametrize("verb", SHORT_HELP)
def test_short_help_names_options_and_defaults_that_the_parser_has(verb):
    parser, (_, _, groups) = PARSERS[verb](), SHORT_HELP[verb]
    known = {name: action for action in parser._actions for name in action.option_strings}
    for name, _, what in (option for options in groups.values() for option in options):
        if name.endswith(".OPTION"):
            continue
        assert name in known
        default = re.search(r"default: ([\w.|]+)[,)]", what)
        if default and default[1] not in ("one", "runs"):
            assert str(known[name].default).lower() == {"all": "all"}.get(default[1], default[1])


def test_short_help_names_every_data_set_and_network():
    for names in (DATASETS, NETWORKS):
        assert all(re.search(rf"\b{name}\b", short_help("train")) for name in names)


@pytest.mark.parametrize("verb", SHORT_HELP)
def test_help_is_short_and_help_all_is_whole(verb, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["msafusion", verb, "--help"])
    cli.main()
    assert capsys.readouterr().out == short_help(verb) + "\n"
    assert len(short_help(verb).splitlines()) < 40
    monkeypatch.setattr("sys.argv", ["msafusion", verb, "--help-all"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert "--trainer.gradient_clip_val" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (["--unimodal.epoch", "3"], "--unimodal.epochs"),
        (["--epochs", "3"], "'--unimodal.epochs' or '--multimodal.epochs'"),
        (["--network.fusoin", "msaf"], "'fusion'"),
        (["--data.valid_subject", "[1]"], "'valid_subjects'"),
        (["--data.folds", "5"], "--folds?"),
    ],
)
def test_an_unknown_option_gets_the_nearest_name(arguments, near):
    with pytest.raises(ValueError, match=f"{re.escape(arguments[0].rpartition('.')[2].strip('-'))}.*{re.escape(near)}"):
        parse_recipe(train_parser(), arguments)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("multimodal: {epoch: 3}", r"multimodal\.epoch; .*'--multimodal\.epochs'.*a\.yaml"),
        ("alone: {epochs: 3}", r"alone\.epochs; .*'--unimodal\.epochs'.*a\.yaml"),  # a run of an older version
    ],
)
def test_an_unknown_option_in_a_file_gets_the_nearest_name(text, said, tmp_path):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ValueError, match=said):
        parse_recipe(train_parser(), ["--config", str(tmp_path / "a.yaml")])
