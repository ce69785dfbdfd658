"""Summary: counts against hand computations, what the command prints and writes, and how it refuses mistakes."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from msafusion.attach import FusedNetwork, FusionPoint, fuse
from msafusion.cli import main
from msafusion.commands.measuring import find_plan
from msafusion.networks import MOSEINet, NTURGBDNet, RAVDESSNet, SmallCNN
from msafusion.summary import PartSummary, summarise

BATCH = 5


class Tiny(nn.Module):
    """Linear 3 to 4, ReLU, linear 4 to 2."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.last = nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)

    def forward(self, vector: torch.Tensor) -> torch.Tensor:
        return self.last(self.relu(self.first(vector)))


def tiny(head: str = "sum") -> tuple[FusedNetwork, dict[str, torch.Tensor]]:
    inputs = {"one": torch.randn(BATCH, 3), "two": torch.randn(BATCH, 3)}
    point = FusionPoint({"one": "first", "two": "first"}, block_channels=2, reduction=1)
    return fuse({"one": Tiny(), "two": Tiny()}, point, head=head, num_outputs=6, example=inputs), inputs


def by_name(rows: list[PartSummary]) -> dict[str, PartSummary]:
    return {row.name: row for row in rows}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "argv", ["msafusion", "summary", *arguments])
    main()


@pytest.mark.parametrize("plan", [SmallCNN(head="concat"), MOSEINet()])
def test_parts_are_in_order_and_their_counts_add_up_to_the_whole(plan: SmallCNN | MOSEINet) -> None:
    net = plan.build(plan.typical_channels, plan.typical_outputs)
    inputs = {stream: torch.randn(1, *shape) for stream, shape in plan.typical_shapes().items()}
    rows = summarise(net, inputs, repeats=1)
    points = [str(fusion_layer.name) for fusion_layer in net.fusion_layers]
    assert [row.name for row in rows] == [*net.networks, *points, "head", "whole"]
    assert [row.kind for row in rows] == [*["network"] * len(inputs), *["fusion"] * len(points), "head", "whole"]
    *parts, whole = rows
    assert whole.parameters == sum(p.numel() for p in net.parameters()) == sum(row.parameters for row in parts)
    assert whole.parameter_bytes == 4 * whole.parameters
    assert whole.flops == sum(row.flops for row in parts)
    assert whole.latency_share == 1
    assert all(row.latency_ms > 0 and row.flops > 0 and row.peak_bytes is None for row in rows)
    assert all(row.latency_share == pytest.approx(row.latency_ms / whole.latency_ms) for row in rows)


def test_flops_and_activations_of_linear_layers() -> None:
    net, inputs = tiny(head="concat")
    rows = by_name(summarise(net, inputs, repeats=1))
    assert rows["one"].flops == 2 * BATCH * (3 * 4 + 4 * 2)
    assert rows["one"].parameters == 3 * 4 + 4 + 4 * 2 + 2
    # the first layer keeps its input; the ReLU keeps its output, which is the storage that the last layer keeps too
    assert rows["one"].activation_bytes == 4 * BATCH * (3 + 4)
    assert rows["head"].flops == 2 * BATCH * 4 * 6
    assert rows["head"].activation_bytes == 4 * BATCH * 4  # the outputs side by side


def test_a_head_that_only_sums_keeps_nothing_and_multiplies_nothing() -> None:
    net, inputs = tiny()
    head = by_name(summarise(net, inputs, repeats=1))["head"]
    assert (head.parameters, head.flops, head.activation_bytes) == (0, 0, 0)


def test_flops_of_convolutions() -> None:
    net = SmallCNN().build({"signal": 3}, 7)
    rows = by_name(summarise(net, {"signal": torch.randn(2, 3, 200)}, repeats=1))
    stages = 200 * 3 * 32 * 7 + 100 * 32 * 64 * 7 + 50 * 64 * 128 * 7
    assert rows["signal"].flops == 2 * 2 * (stages + 3 * 128 * 7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])  # one fused operator, or matrix products
def test_flops_of_lstms_whichever_way_torch_runs_them(dtype: torch.dtype) -> None:
    net = MOSEINet().build(MOSEINet.typical_channels, 1).to(dtype)
    inputs = {
        stream: torch.randn(2, 10, channels, dtype=dtype) for stream, channels in MOSEINet.typical_channels.items()
    }
    rows = by_name(summarise(net, inputs, repeats=1))
    for stream, hidden in {"visual": 32, "audio": 64, "text": 128}.items():
        weights = 4 * hidden * (MOSEINet.typical_channels[stream] + 3 * hidden)
        assert rows[stream].flops == 2 * 2 * 10 * weights


@pytest.mark.parametrize("name", ["aten::mkldnn_rnn_layer", "aten::_cudnn_rnn"])
def test_flops_of_fused_recurrent_layers_follow_the_operators_arguments(name: str) -> None:
    from msafusion.summary import RECURRENT

    operator = getattr(torch.ops.aten, name.removeprefix("aten::"))
    names = [argument.name for argument in operator.default._schema.arguments]
    assert names[0] == "input"
    shapes = [(4 * 7, 5), (4 * 7, 7), (4 * 7,), (4 * 7,)]
    given = (shapes,) if names[1] == "weight" else shapes
    assert names[1 : 1 + len(given)] in (["weight"], ["weight0", "weight1", "weight2", "weight3"])
    assert RECURRENT[operator]((11, 2, 5), *given, None, mode=2) == 2 * 11 * 2 * 4 * 7 * (5 + 7)


def test_twice_the_batch_is_twice_the_work() -> None:
    net, inputs = tiny()
    once = summarise(net, inputs, repeats=1)
    twice = summarise(net, {name: torch.cat([value, value]) for name, value in inputs.items()}, repeats=1)
    assert [row.flops for row in twice] == [2 * row.flops for row in once]
    assert [row.parameters for row in twice] == [row.parameters for row in once]


def test_several_streams_of_one_network_and_a_video_that_is_small() -> None:
    net = NTURGBDNet().build(NTURGBDNet.typical_channels, 60)
    inputs = {"rgb": torch.randn(1, 3, 8, 32, 32), "skeleton": torch.randn(1, 3, 32, 25, 2)}
    *parts, whole = summarise(net, inputs, repeats=1)
    assert whole.parameters == sum(row.parameters for row in parts)
    assert whole.flops == sum(row.flops for row in parts)


def test_bfloat16_keeps_the_counts_and_halves_what_is_kept() -> None:
    net, inputs = tiny(head="concat")
    full, half = by_name(summarise(net, inputs, repeats=1)), by_name(summarise(net, inputs, precision="bfloat16"))
    assert {name: row.flops for name, row in half.items()} == {name: row.flops for name, row in full.items()}
    # the outputs side by side and the cast weights (a copy of the parameters), at two bytes a number
    assert half["head"].activation_bytes == 2 * (BATCH * 4 + 4 * 6)


def test_modes_gradients_hooks_and_statistics_are_as_before() -> None:
    net, inputs = tiny()
    net.train().freeze("one")
    modes = [module.training for module in net.modules()]
    state = {key: value.clone() for key, value in net.state_dict().items()}
    summarise(net, inputs, repeats=1)
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not any(module._forward_pre_hooks for module in (*net.fusion_layers, net.head))


def test_a_frozen_network_keeps_nothing_for_backward() -> None:
    net, inputs = tiny()
    net.freeze("one")
    rows = by_name(summarise(net, inputs, repeats=1))
    assert rows["one"].activation_bytes == 0 < rows["two"].activation_bytes


def test_progress_names_every_part() -> None:
    net, inputs = tiny()
    told: list[str] = []
    rows = summarise(net, inputs, repeats=1, progress=told.append)
    assert sorted(told) == sorted(row.name for row in rows)


def test_rows_cannot_be_changed() -> None:
    net, inputs = tiny()
    row = summarise(net, inputs, repeats=1)[0]
    assert replace(row, flops=0).flops == 0
    with pytest.raises(AttributeError):
        row.flops = 0  # pyright: ignore[reportAttributeAccessIssue]


def test_mistakes_in_python_are_refused() -> None:
    net, inputs = tiny()
    with pytest.raises(ValueError, match="repeats is 0, expected a positive integer"):
        summarise(net, inputs, repeats=0)
    with pytest.raises(ValueError, match="precision is 'float8', expected float32 or bfloat16"):
        summarise(net, inputs, precision="float8")
    with pytest.raises(ValueError, match="no input for network 'two'"):
        summarise(net, {"one": inputs["one"]})
    with pytest.raises(ValueError, match="unknown network 'tow'; did you mean 'two'"):
        summarise(net, {"one": inputs["one"], "tow": inputs["two"]})


@pytest.mark.parametrize("plan", [RAVDESSNet, MOSEINet, NTURGBDNet])
def test_networks_are_named_by_their_class(plan: type) -> None:
    assert type(find_plan(plan.__name__)) is plan
    with pytest.raises(ValueError, match=f"did you mean '{plan.__name__}'"):
        find_plan(plan.__name__.lower())


@pytest.mark.parametrize(
    ("text", "plan", "options"),
    [
        ("network: MOSEINet", MOSEINet, {"segments": 5}),
        ("network: {class_path: MOSEINet, init_args: {segments: 2}}", MOSEINet, {"segments": 2}),
        (
            "network: {class_path: msafusion.networks.RAVDESSNet, init_args: {init: paper}}",
            RAVDESSNet,
            {"init": "paper"},
        ),
        (
            "network:\n  class_path: msafusion.networks.small.SmallCNN\ndata: {class_path: SmartwatchExercises}",
            SmallCNN,
            {},
        ),
        ("seed: 3", SmallCNN, {"kernel_size": 7}),
        ("network: {class_path: test_summary.Missing}", None, {}),
    ],
)
def test_configurations(tmp_path: Path, text: str, plan: type | None, options: dict[str, object]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    if plan is None:
        with pytest.raises(ValueError, match=r"test_summary\.Missing"):
            find_plan(str(path))
        return
    found = find_plan(str(path))
    assert type(found) is plan
    assert {name: getattr(found, name) for name in options} == options


def test_command_prints_a_table_and_writes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    run(monkeypatch, "SmallCNN", "--batch_size", "2", "--repeats", "1", "--device", "cpu")
    shown = capsys.readouterr().out
    written = json.loads((tmp_path / "summary-SmallCNN.json").read_text())
    assert shown.splitlines()[-1] == "results in summary-SmallCNN.json"
    assert "SmallCNN: accelerometer 2x3x200, gyroscope 2x3x200; cpu, 1 thread, float32" in " ".join(shown.split())
    assert [part["name"] for part in written["parts"]][-2:] == ["head", "whole"]
    assert written["inputs"] == {"accelerometer": [2, 3, 200], "gyroscope": [2, 3, 200]}
    assert (written["threads"], written["batch_size"], written["precision"]) == (1, 2, "float32")
    assert written["network"]["name"] == "SmallCNN"
    assert f"{written['parts'][-1]['parameters']:,}" in shown
    assert torch.get_num_threads() == threads


def test_command_reads_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.yaml").write_text("network: {class_path: SmallCNN, init_args: {widths: [4, 8], fuse_at: [stage2]}}")
    target = tmp_path / "out.json"
    options = ("--precision", "bfloat16", "--repeats", "1", "--out", str(target))
    run(monkeypatch, str(tmp_path / "c.yaml"), *options)
    written = json.loads(target.read_text())
    assert written["network"]["options"]["widths"] == [4, 8]
    assert written["precision"] == "bfloat16"
    assert len(written["parts"]) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ravdess"], "no network 'ravdess'.* did you mean 'RAVDESSNet'"),
        (["gone.yaml"], "no configuration file 'gone.yaml'.*check the path"),
        (["list.yaml"], "'list.yaml' holds list, expected options by name"),
        (["broken.yaml"], "'broken.yaml' is not YAML"),
        (["unknown.yaml"], "unknown network 'Ravdes' in 'unknown.yaml'; did you mean 'RAVDESSNet'"),
        (["options.yaml"], "network in 'options.yaml': .*segmints"),
        (["number.yaml"], "network in 'number.yaml' is 3, expected a name or class_path"),
        (["SmallCNN", "--batch_size", "0"], "--batch_size is 0, expected a positive integer"),
        (["SmallCNN", "--batch_size", "10000000000"], "SmallCNN does not fit into the memory of cpu; use a smaller"),
        (["SmallCNN", "--repeats", "0"], "--repeats is 0, expected a positive integer"),
        (["SmallCNN", "--repeats", "many"], "repeats.*see `msafusion summary --help`"),
        (["SmallCNN", "--precision", "float8"], "precision.*see `msafusion summary --help`"),
        (["SmallCNN", "--device", "gpu"], "--device is 'gpu', expected .* choose from: cpu"),
        (["SmallCNN", "--out", "no/where.json"], "cannot write 'no/where.json'"),
        ([], "network.*see `msafusion summary --help`"),
    ],
)
def test_each_mistake_ends_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.yaml").write_text("- 1")
    Path("broken.yaml").write_text("network: [")
    Path("unknown.yaml").write_text("network: Ravdes")
    Path("options.yaml").write_text("network: {class_path: MOSEINet, init_args: {segmints: 2}}")
    Path("number.yaml").write_text("network: 3")
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, *arguments)
    said = str(ended.value.code)
    assert "\n" not in said
    assert re.search(message, said), said
