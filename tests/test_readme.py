"""The README's example runs as shown, and its claims hold."""

import re
from pathlib import Path

import pytest
import torch

README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.mark.usefixtures("without_shape_checks")  # as users run it
def test_python_example_runs_and_starts_as_the_sum_of_the_networks(tmp_path, monkeypatch):
    example, more, published, chosen = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict = {}
    exec(example, names)
    assert names["logits"].shape == (8, 7)
    assert names["alone"].shape == (8, 7)
    net, batch = names["net"].eval(), names["batch"]
    assert torch.equal(net(batch), sum(net.networks[name](batch[name]) for name in batch))
    few = {name: values[:3] for name, values in batch.items()}
    torch.testing.assert_close(names["program"].module()(few), net(few))
    monkeypatch.chdir(tmp_path)
    exec(more, names)
    assert set(names["per_network"]) == set(batch)
    assert [group["name"] for group in names["groups"]] == ["accelerometer", "fusion"]
    assert (tmp_path / "fused.onnx").stat().st_size > 1000
    assert torch.equal(names["again"](batch), names["net"].eval()(batch))
    others = {key: value for key, value in names.items() if key in ("FusionPoint", "fuse", "networks", "batch")}
    exec(chosen, others)
    assert others["net"](batch).shape == (8, 7)
    exec(published, names)
    torch.testing.assert_close(names["emotions"], names["net"](names["clip"]), rtol=1e-3, atol=1e-3)


def test_file_tree_names_only_what_exists():
    tree = README.split("## Where things are")[1].split("```")[1]
    paths = [line.split()[0] for line in tree.strip().splitlines()]
    root = Path(__file__).parents[1]
    for path in paths:
        assert (root / path).exists() or (root / "src/msafusion" / path).exists(), path
