import pickle
import zipfile

import pytest
import torch

from msafusion.failures import DataError
from msafusion.files.torch_file import check_tensor, check_torch_file

STATE = {"a.weight": torch.ones(3, 4), "epoch": 3, "more": {"b": torch.zeros(2, dtype=torch.bfloat16)}}


@pytest.mark.parametrize("new", [True, False])
def test_files_of_either_form_pass(tmp_path, new):
    torch.save(STATE, tmp_path / "x.pth", _use_new_zipfile_serialization=new)
    check_torch_file(tmp_path / "x.pth")


def test_checkpoints_with_optimizers_pass(tmp_path):
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    torch.save({"state_dict": layer.state_dict(), "optimizer_states": [optimizer.state_dict()]}, tmp_path / "x.ckpt")
    check_torch_file(tmp_path / "x.ckpt")


class _Grows:
    def __reduce__(self):
        return bytearray, (10**10,)


def with_pickle(file, program):
    """The file of torch.save with another pickle in it."""
    torch.save({}, file)
    with zipfile.ZipFile(file) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(file, "w") as new:
        for name, content in members.items():
            new.writestr(name, program if name.endswith("data.pkl") else content)
    return file


@pytest.mark.parametrize(
    ("program", "line"),
    [
        (pickle.dumps(_Grows(), 2), "x.pth' is not loaded: it calls .*bytearray, which weights do not; get the file"),
        (pickle.dumps([1, 2], 2)[:-1], "x.pth' is not loaded: pickle exhausted"),
        (b"0.", "it takes more than it has"),
        (b"]q\x00}(h\x00h\x00u.", "a list is a key"),
    ],
)
def test_a_pickle_that_grows_or_is_damaged_is_refused(tmp_path, program, line):
    with pytest.raises(DataError, match=line):
        check_torch_file(with_pickle(tmp_path / "x.pth", program))


def test_records_that_grow_absurdly_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("msafusion.files.reading.UNSUSPICIOUS", 10**6)
    with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"N.")
        archive.writestr("x/data/0", bytes(3_000_000))
    with pytest.raises(DataError, match=r"x.pth' would take 0.00 GB from"):
        check_torch_file(tmp_path / "x.pth")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(1).expand(1000),
        torch.eye(3).to_sparse(),
        torch.empty(3, device="meta"),
    ],
)
def test_tensors_that_are_not_stored_whole_are_refused(tensor):
    check_tensor("a", torch.ones(3, 4).T)
    with pytest.raises(DataError, match=r"the tensor 'a' of shape .* is not stored whole"):
        check_tensor("a", tensor)
