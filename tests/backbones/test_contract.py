import pytest
import torch

from msafusion.backbones import BACKBONES, CNN1d


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_is_a_module_with_a_docstring(name):
    assert issubclass(BACKBONES[name], torch.nn.Module)
    assert "Args:" in (BACKBONES[name].__doc__ or "")


@pytest.mark.parametrize("steps", [4, 37, 200])
def test_cnn1d_takes_any_length(steps):
    net = CNN1d(3, 5)
    assert net(torch.randn(2, 3, steps)).shape == (2, 5)


def test_cnn1d_stages_have_the_widths_asked_for():
    net = CNN1d(3, 5, widths=(8, 12))
    shapes = {}
    for name in net.stages:
        net.get_submodule(name).register_forward_hook(
            lambda m, i, out, name=name: shapes.update({name: tuple(out.shape)})
        )
    net(torch.randn(2, 3, 40))
    assert shapes == {"stage1": (2, 8, 20), "stage2": (2, 12, 20)}
