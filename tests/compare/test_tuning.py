"""What tuning may change: options that every method has."""

import inspect

import pytest

from msafusion.compare.config import STAGE_OPTIONS
from msafusion.compare.tuning import STAGE, search_space
from msafusion.fusion import FUSIONS, HEADS

METHODS = {**FUSIONS, **HEADS}


@pytest.mark.parametrize("name", METHODS)
def test_the_search_space_of_a_method_holds_options_that_it_takes(name):
    streams = {"a": 64, "b": 64}
    for option, values in search_space(name).items():
        assert option in inspect.signature(METHODS[name]).parameters
        assert len(set(values)) > 1
        for value in values:
            outputs = {} if name in FUSIONS else {"num_outputs": 3}
            assert METHODS[name](streams, **outputs, **{option: value}) is not None


def test_both_forms_of_msaf_have_one_search_space():
    assert search_space("msaf") == search_space("msaf_paper") != {}
    assert search_space("sum") == {}


def test_options_of_the_stage_are_those_that_a_variant_may_set():
    assert STAGE.keys() <= set(STAGE_OPTIONS)
