"""Folders and networks that do not go together, and configurations as a stranger would write them."""

import contextlib
import copy
import json

import pytest
import torch
from small_networks import AudioCNN, Recurrent, VideoCNN, fused_cnns
from torch import nn

from msafusion import FusedNetwork
from msafusion.files.saved_model import ModelError


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """A saved network's configuration and weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("fused")
    fused_cnns().freeze("audio").save_pretrained(folder)
    return json.loads((folder / "config.json").read_text()), (folder / "model.safetensors").read_bytes()


@pytest.fixture
def folder(content, tmp_path):
    """One's own copy of it."""
    (tmp_path / "config.json").write_text(json.dumps(content[0]))
    (tmp_path / "model.safetensors").write_bytes(content[1])
    return tmp_path


def cnns(**others):
    return {"video": VideoCNN(), "audio": AudioCNN(), **others}


def changed(folder, **values):
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def refused(folder, networks, match):
    with pytest.raises(ModelError, match=match) as caught:
        FusedNetwork.from_pretrained(folder, networks)
    assert "\n" not in str(caught.value)


def test_networks_that_are_missing_unknown_or_of_another_class_are_named(folder):
    refused(folder, {"video": VideoCNN()}, r"^no network 'audio' was given, expected a AudioCNN as in")
    refused(folder, cnns(sound=AudioCNN()), r"has no network 'sound', which was given; ")
    refused(folder, cnns(audio=Recurrent(5, 6)), r"^network 'audio' is a Recurrent, expected a AudioCNN")
    with pytest.raises(TypeError, match=r"^network 'audio' is the class AudioCNN"):
        FusedNetwork.from_pretrained(folder, cnns(audio=AudioCNN))


def test_other_widths_are_named_and_change_nothing(folder):
    networks = cnns(video=VideoCNN(9))
    before = copy.deepcopy(networks["audio"].state_dict())
    refused(folder, networks, r"do not fit network 'video' \(VideoCNN\).*layer1\.0\.weight has shape \(8, 3, 3, 3, 3\)")
    assert all(torch.equal(value, before[key]) for key, value in networks["audio"].state_dict().items())
    assert networks["audio"].training
    other = AudioCNN()
    other.relu1 = other.bn1 = nn.Identity()
    refused(folder, cnns(audio=other), r"network 'audio' \(AudioCNN\) .*4 unexpected|5 unexpected")
    del other.relu2
    refused(folder, cnns(audio=other), r"network 'audio' has no submodule 'relu2'")


def test_absent_broken_and_foreign_folders_are_named(folder, tmp_path):
    refused(tmp_path / "nowhere", cnns(), r"^no config\.json in '.*nowhere', expected a fused network; give")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-8])
    refused(folder, cnns(), r"model\.safetensors' cannot be read")
    (folder / "model.safetensors").unlink()
    refused(folder, cnns(), r"^no model\.safetensors in")
    (folder / "model.safetensors").write_bytes(weights)
    for values, said in (
        ({"model_type": "bert"}, "give the folder it wrote"),
        ({"preprocessing": {}, "classes": []}, r"msafusion\.load\(\) reads"),
    ):
        (folder / "config.json").write_text(json.dumps(values))
        refused(folder, cnns(), f"config.json.* a fused network, expected what save_pretrained.* wrote; {said}")
    (folder / "config.json").write_text("{")
    refused(folder, cnns(), r"config\.json' cannot be read")


def test_other_versions_are_named(folder):
    changed(folder, msafusion="9.1", format=2)
    refused(folder, cnns(), r"was saved by msafusion 9\.1 in format 2, and this one \(.*\) reads format 1; use the")
    points = json.loads((folder / "config.json").read_text())["points"]
    points[0]["options"]["future"] = 1
    changed(folder, format=1, points=points)
    refused(folder, cnns(), r"cannot be built \(saved by msafusion 9\.1, this is .*future.*the options of 'msaf' are")
    points[0]["method"] = "mine"
    changed(folder, points=points)
    refused(
        folder, cnns(), r"fusion point video\.layer1 .* has the fusion 'mine', which is not in FUSIONS; import your"
    )


def test_links_are_not_written_through(tmp_path):
    target, folder = tmp_path / "precious", tmp_path / "fused"
    target.write_text("kept")
    folder.mkdir()
    for name in ("config.json", "model.safetensors", ".model.safetensors"):
        (folder / name).symlink_to(target)
        with pytest.raises(ValueError, match=r"is a link, which is not written through"):
            fused_cnns().save_pretrained(folder)
        (folder / name).unlink()
    with pytest.raises(ValueError, match=r"precious' is a file, expected a folder"):
        fused_cnns().save_pretrained(target)
    assert target.read_text() == "kept"


def places(tree, above=()):
    for key in tree if isinstance(tree, dict) else range(len(tree)):
        yield (*above, key)
        if isinstance(tree[key], dict | list):
            yield from places(tree[key], (*above, key))


def test_values_of_other_kinds_in_a_configuration_are_one_line(content, folder):
    networks, values = cnns(), [None, {"class_path": "subprocess.Popen"}, 2**70, "os.system", [[]], True]
    for number, path in enumerate(list(places(content[0]))[::5]):
        tree = place = copy.deepcopy(content[0])
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = values[number % len(values)]
        (folder / "config.json").write_text(json.dumps(tree))
        with contextlib.suppress(ModelError):  # what else it raises would fail here
            FusedNetwork.from_pretrained(folder, networks)


def test_a_small_file_does_not_ask_for_much_memory(content, folder):
    head = {"method": "gmu", "class": "GMU", "num_outputs": 4, "options": {"hidden": 10**6}, "channels": [["a", 10**6]]}
    changed(folder, head=head)
    refused(folder, cnns(), r"ask for more than .* \(as the weights need\)")
