import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from axolemma import models
from axolemma.errors import InputError, ModelFileError
from axolemma.modelfile import ModelInfo, load_model, save_model, state_hash

INFO = ModelInfo(
    architecture="resunet",
    arguments={"width": 4, "depth": 2},
    voxel_size=(50.0, 4.0, 4.0),
    threshold=0.6,
    calibration=(0.8, -1.2),
    training={"data": "made up"},
    licence="none",
)


@pytest.fixture
def network():
    return models.build("resunet", width=4, depth=2)


@pytest.fixture
def file(tmp_path, network):
    save_model(tmp_path / "model.safetensors", network, INFO)
    return tmp_path / "model.safetensors"


def test_round_trip(file, network):
    model = load_model(file)
    assert model.info == INFO
    assert not model.network.training
    assert state_hash(model.network) == state_hash(network)
    assert list(file.parent.iterdir()) == [file]


def test_a_run_folder_names_its_model(file):
    assert load_model(file.parent).source == str(file)


def test_older_files_have_a_threshold_for_each_average():
    told = INFO.model_dump(exclude={"threshold", "calibration"})
    told["thresholds"] = {"none": 0.5, "dihedral": 0.6}
    assert ModelInfo.model_validate(told).threshold == 0.6
    assert ModelInfo.model_validate(told).calibration is None
    told["calibrations"] = {"none": (0.7, -1.1), "dihedral": (0.8, -1.2)}
    assert ModelInfo.model_validate(told) == INFO
    for wrong in (
        {"thresholds": [0.5]},
        {"thresholds": {}},
        {"calibrations": {"none": (0.0, 1.0)}},
    ):
        with pytest.raises(ValidationError):
            ModelInfo.model_validate(told | wrong)


def test_older_files_have_a_magnification():
    told = INFO.model_dump()
    assert ModelInfo.model_validate(told | {"magnification": 1.0}) == INFO
    with pytest.raises(ValidationError, match="magnification"):
        ModelInfo.model_validate(told | {"magnification": 1.1})


def test_hash_sees_one_changed_number(network):
    before = state_hash(network)
    with torch.no_grad():
        network.head.bias[0] += 1e-6
    assert state_hash(network) != before


def test_unknown_names(tmp_path):
    with pytest.raises(ModelFileError, match="no model file or model named 'nurites'"):
        load_model("nurites")
    with pytest.raises(ModelFileError, match=r"holds no model\.safetensors"):
        load_model(tmp_path)


def test_not_a_model_file(tmp_path, file):
    text = tmp_path / "text.safetensors"
    text.write_text("hello")
    with pytest.raises(ModelFileError, match="not a model file"):
        load_model(text)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(ModelFileError, match="not a model file"):
        load_model(cut)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": torch.zeros(2)}, foreign)
    with pytest.raises(ModelFileError, match="do not come from Axolemma"):
        load_model(foreign)


def test_a_newer_format(tmp_path, file):
    newer = tmp_path / "newer.safetensors"
    about = json.dumps(INFO.model_dump(mode="json") | {"format": 2})
    save_file(load_file(file), newer, metadata={"axolemma": about})
    with pytest.raises(ModelFileError, match="may come from a newer version"):
        load_model(newer)


def test_weights_that_do_not_fit(tmp_path, file):
    wrong = tmp_path / "wrong.safetensors"
    about = INFO.model_copy(update={"arguments": {"width": 8, "depth": 2}}).model_dump_json()
    save_file(load_file(file), wrong, metadata={"axolemma": about})
    with pytest.raises(ModelFileError, match="do not fit its description"):
        load_model(wrong)


def test_a_place_that_cannot_be_written(tmp_path, network):
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(InputError, match=r"the folder .* does not exist"):
        save_model(blocker / "model.safetensors", network, INFO)
    assert list(tmp_path.iterdir()) == [blocker]


def test_nothing_is_unpickled(tmp_path):
    torch.save({"x": np.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelFileError, match="not a model file"):
        load_model(tmp_path)


def test_others_may_read_it_as_any_other_file(tmp_path):
    save_model(tmp_path / "model.safetensors", models.build("resunet", width=4, depth=2), INFO)
    (tmp_path / "plain").touch()
    found, plain = ((tmp_path / name).stat().st_mode for name in ("model.safetensors", "plain"))
    assert found == plain


def test_weights_that_were_damaged(tmp_path, network):
    told = INFO.model_copy(update={"training": {"weights_sha256": state_hash(network)}})
    file = tmp_path / "model.safetensors"
    save_model(file, network, told)
    load_model(file)
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelFileError, match="the file is damaged"):
        load_model(file)
