import pytest
from hypothesis import given
from hypothesis import strategies as st

from axolemma.errors import SettingsError
from axolemma.settings import RECIPES, SegmentSettings, TrainSettings, check, minutes, read_yaml


@pytest.mark.parametrize(
    ("text", "expected"), [("90s", 1.5), ("10m", 10), ("1.5h", 90), ("7", 7), (3, 3), (" 2 m", 2)]
)
def test_durations(text, expected):
    assert minutes(text) == expected


@pytest.mark.parametrize("text", ["soon", "-3m", "0s", "10 minutes", "nan"])
def test_no_durations(text):
    with pytest.raises(ValueError, match="is no duration; write for instance 90s"):
        minutes(text)


@given(st.floats(0.01, 1e4))
def test_numbers_are_minutes(number):
    assert minutes(f"{number:.6f}") == pytest.approx(number, abs=1e-6)


def test_none_takes_the_default_and_names_are_those_of_the_flags():
    settings = check(TrainSettings, {"data": "x", "seed": None, "validate": "3-4", "budget": "2h"})
    assert settings.seed == 0
    assert settings.validate_slices == "3-4"
    assert settings.budget == 120
    with pytest.raises(Exception, match="frozen"):
        settings.seed = 1


def test_a_start_is_called_from_where_that_is_no_word_of_python():
    by_name, by_flag = (check(TrainSettings, {"data": "x", key: "a"}) for key in ("start", "from"))
    assert by_name == by_flag
    assert by_flag.model_dump(by_alias=True)["from"] == "a"


def test_a_recipe_lies_under_what_is_given():
    plain = check(TrainSettings, {"data": "x", "recipe": "seed-unet"})
    assert (plain.model, plain.preset, plain.steps, plain.batch) == ("unet", "keras", 3000, 1)
    changed = {"data": "x", "recipe": "seed-unetplusplus", "budget": "5m", "batch": 2}
    given = check(TrainSettings, changed | {"arguments": {"dropout": 0.1}})
    assert (given.budget, given.steps, given.batch) == (5, None, 2)
    assert given.arguments["dropout"] == 0.1
    assert given.arguments["dropout_twice"] is True
    written = check(TrainSettings, {"data": "x", **RECIPES["seed-unet"]})
    assert plain == written.model_copy(update={"recipe": "seed-unet"})


@pytest.mark.parametrize(
    ("kind", "values", "match"),
    [
        (TrainSettings, {"data": "x", "stepz": 3}, "unknown setting 'stepz'; did you mean 'steps'"),
        (TrainSettings, {"data": "x", "width": True}, "'width': no matter of yes or no, got True"),
        (SegmentSettings, {"model": "m", "tile": False}, "'tile': no matter of yes or no"),
        (TrainSettings, {"data": "x", "batch": 0}, "'batch': .*greater than or equal to 1, got 0"),
        (TrainSettings, {"data": "x", "budget": "soon"}, "'budget': 'soon' is no duration"),
        (TrainSettings, {"data": "x", "budget": 1, "steps": 1}, "budget .* or a number of steps"),
        (TrainSettings, {}, "setting 'data' is missing"),
        (SegmentSettings, {"model": "m", "average": "all"}, "'average': .*'dihedral', got 'all'"),
        (
            TrainSettings,
            {"data": "x", "recipe": "seed-unets"},
            "unknown recipe 'seed-unets'; did you mean 'seed-unet'",
        ),
        (
            TrainSettings,
            {"data": "x", "recipe": "seed-unet", "model": "cenet"},
            "recipe 'seed-unet' is one for model 'unet', not for 'cenet'",
        ),
        (
            SegmentSettings,
            {"model": "m", "voxel_size": ["50", "4"]},
            "'voxel_size': .*three lengths Z,Y,X",
        ),
    ],
)
def test_one_sentence_for_each_mistake(kind, values, match):
    with pytest.raises(SettingsError, match=match) as caught:
        check(kind, values)
    assert "\n" not in str(caught.value)


def test_yaml(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("data: isbi2012\nsteps: 20\n")
    assert read_yaml(file) == {"data": "isbi2012", "steps": 20}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a: [1", "not valid YAML"),
        ("- a\n- b", "lines of the form 'name: value'"),
        ("", "of the"),
        ("steps: 20\nseed: 1\nsteps: 30", "'steps' is given twice"),
        ("arguments: {width: 8, width: 16}", "'width' is given twice"),
    ],
)
def test_broken_yaml(tmp_path, text, match):
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=match):
        read_yaml(file)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"objects": "none", "boundary": 0.5}, "boundary is about cells"),
        ({"objects": "none", "filled": True}, "filled is about cells"),
        ({"method": "threshold", "boundary": 0.5}, "at which method threshold does not look"),
    ],
)
def test_settings_that_would_do_nothing(values, match):
    with pytest.raises(SettingsError, match=match):
        check(SegmentSettings, values)


def test_missing_yaml(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read"):
        read_yaml(tmp_path / "none.yaml")
