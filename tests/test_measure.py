import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from axolemma.cli import app
from axolemma.errors import InputError
from axolemma.images import write_tiff
from axolemma.measure import (
    measure_cells,
    measure_neurons,
    write_meshes,
    write_skeletons,
    write_table,
)
from axolemma.measure.surfaces import outlines, surfaces

LAST = 2**32 - 1  # the largest label of a uint32


def disc(radius, side):
    y, x = np.indices((side, side)) - (side - 1) / 2
    return y**2 + x**2 < radius**2


def read_csv(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def row(table, n=0):
    return {column: values[n] for column, values in table.items()}


def test_a_cylinder_through_the_stack():
    stack = np.zeros((12, 61, 61), np.uint32)
    stack[:, disc(20.3, 61)] = 7
    found = row(measure_neurons(stack, voxel_size=(50, 4, 4)))
    radius, height = 20.3 * 4, 12 * 50
    assert found["neuron"] == 7
    assert found["calibre_nm"] == pytest.approx(2 * radius, rel=0.01)
    assert found["volume_nm3"] == pytest.approx(np.pi * radius**2 * height, rel=0.01)
    assert found["surface_nm2"] == pytest.approx(2 * np.pi * radius * height, rel=0.01)
    assert 11 * 50 <= found["path_nm"] <= 11 * 50 + 2 * radius  # it starts at a rim
    assert (found["sections"], found["first_section"], found["last_section"]) == (12, 0, 11)
    assert found["contacts"] == 0
    assert found["centroid_z_nm"] == pytest.approx(300)
    assert found["centroid_y_nm"] == pytest.approx(61 * 4 / 2)


def test_the_path_of_a_thin_neurite():
    stack = np.zeros((30, 9, 9), np.uint8)
    stack[:, 3:6, 3:6] = 1
    found = row(measure_neurons(stack, voxel_size=(50, 4, 4)))
    assert found["path_nm"] == pytest.approx(29 * 50, rel=0.01)


def test_an_oblique_cylinder_keeps_its_calibre():
    z, y, x = np.indices((13, 61, 121))
    stack = ((y - 30) ** 2 + (x - 30 - 5 * z) ** 2 < 20.3**2).astype(np.uint8)
    found = row(measure_neurons(stack, voxel_size=(50, 4, 4)))
    assert found["calibre_nm"] == pytest.approx(2 * 20.3 * 4, rel=0.05)


@pytest.mark.parametrize("sides", [(1, 1, 1), (4, 1, 1)])
def test_a_ball_has_its_surface(sides):
    places = (np.indices((61, 61, 61)) - 30.0).transpose(1, 2, 3, 0) * sides
    ball = ((places**2).sum(axis=-1) < 20.3**2).astype(np.int64)
    (area,) = surfaces(ball, sides=sides).sizes
    assert area == pytest.approx(4 * np.pi * 20.3**2, rel=0.02)


def test_a_cube_has_its_surface():
    cube = np.zeros((30, 30, 30), np.uint8)
    cube[5:25, 5:25, 5:25] = 1
    found = row(measure_neurons(cube, voxel_size=(2, 2, 2)))
    assert found["volume_nm3"] == 40**3
    assert found["surface_nm2"] == pytest.approx(6 * 40**2, rel=0.08)  # walls along the axes
    assert [found[f"first_{axis}_px"] for axis in "zyx"] == [5, 5, 5]
    assert [found[f"last_{axis}_px"] for axis in "zyx"] == [24, 24, 24]


@pytest.mark.parametrize("width", [1, 6])
def test_two_boxes_touch_across_their_membrane(width):
    stack = np.zeros((4, 20, 60), np.uint8)
    stack[:, :, 10:30] = 1
    stack[:, :, 30 + width : 50] = 2
    found = measure_neurons(stack, voxel_size=(50, 4, 4), gap=width * 4)
    assert found["contacts"].tolist() == [1, 1]
    assert found["neighbour_1"].tolist() == [2, 1]
    # 20 pixels of 4 nm in 4 sections of 50 nm; a line along the axes counts for 95 %.
    assert found["contact_1_nm2"] == pytest.approx([20 * 4 * 200] * 2, rel=0.08)
    apart = measure_neurons(stack, voxel_size=(50, 4, 4), gap=(width - 1) * 4 - 0.1 * (width > 1))
    assert (apart["contacts"] == 0).all()


def test_steps_between_sections_are_contacts():
    stack = np.ones((4, 10, 10), np.uint8)
    stack[2:] = 2
    (contact,) = surfaces(stack.astype(np.int64), sides=(50, 4, 4)).sizes
    assert contact == 100 * 16


def test_the_largest_contacts_come_first():
    stack = np.zeros((1, 40, 40), np.int64)
    stack[0, :20], stack[0, 20:, :30], stack[0, 20:, 30:] = LAST, 5, 9
    found = measure_cells(stack, voxel_size=(50, 4, 4), gap=0)
    assert found["cell"].tolist() == [5, 9, LAST]
    last = row(found, 2)
    assert (last["neighbour_1"], last["neighbour_2"], last["neighbour_3"]) == (5, 9, 0)
    assert last["contact_1_nm"] > last["contact_2_nm"] > last["contact_3_nm"] == 0


def test_a_disc_among_pixels_of_any_shape():
    stack = disc(20.3, 61)[None].astype(np.int64)
    found = row(measure_cells(stack, voxel_size=(50, 4, 4)))
    assert found["perimeter_nm"] == pytest.approx(2 * np.pi * 20.3 * 4, rel=0.01)
    assert found["calibre_nm"] == pytest.approx(2 * 20.3 * 4, rel=0.01)
    y, x = np.indices((61, 121)) - np.array([30, 60])[:, None, None]
    oblong = ((y * 2) ** 2 + x**2 < 40**2)[None].astype(np.int64)
    (length,) = outlines(oblong, sides=(2, 1)).sizes
    assert length == pytest.approx(2 * np.pi * 40, rel=0.02)


def test_a_label_in_two_sections_is_two_cells():
    stack = np.zeros((2, 9, 9), np.uint32)
    stack[:, 2:5, 2:5] = LAST
    stack[1, 6, 6] = 1
    found = measure_cells(stack, voxel_size=(50, 4, 4))
    assert found["section"].tolist() == [0, 1, 1]
    assert found["cell"].tolist() == [LAST, 1, LAST]
    assert found["area_nm2"].tolist() == [9 * 16, 16, 9 * 16]
    assert not any("_z_" in column for column in found)


def test_one_voxel_and_nothing():
    stack = np.zeros((3, 5, 5), np.uint32)
    for measure in (measure_cells, measure_neurons):
        assert all(len(v) == 0 for v in measure(stack, voxel_size=(50, 4, 4)).values())
        nothing = np.zeros((0, 5, 5), np.uint8)
        assert all(len(v) == 0 for v in measure(nothing, voxel_size=(50, 4, 4)).values())
    stack[1, 2, 2] = LAST
    found = row(measure_neurons(stack, voxel_size=(50, 4, 4)))
    assert (found["neuron"], found["path_nm"], found["sections"]) == (LAST, 0, 1)
    assert found["volume_nm3"] == 800
    assert found["centroid_x_nm"] == 10


def test_labels_of_64_bits_are_not_rounded():
    stack = np.zeros((2, 5, 5), np.uint64)
    stack[:, 1:4, 1:4] = 2**60 + 1
    for measure, name in ((measure_cells, "cell"), (measure_neurons, "neuron")):
        assert measure(stack, voxel_size=(50, 4, 4))[name][0] == 2**60 + 1


def test_what_fills_the_stack_has_no_surface(tmp_path):
    table = measure_neurons(np.ones((2, 4, 4), np.uint8), voxel_size=(50, 4, 4))
    assert np.isnan(table["calibre_nm"][0])
    write_table(tmp_path / "a.csv", table)
    (line,) = read_csv(tmp_path / "a.csv")
    assert line["calibre_nm"] == ""
    assert line["volume_nm3"] == "25600.0"


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (np.zeros((4, 4), np.uint8), {}, "axes ZYX"),
        (np.zeros((2, 4, 4)), {}, "integers"),
        (np.full((2, 4, 4), -1), {}, "number objects from 1"),
        (np.ones((2, 4, 4), np.uint8), {"voxel_size": (50, 0, 4)}, "all above 0"),
        (np.ones((2, 4, 4), np.uint8), {"gap": -1}, "at least 0"),
    ],
)
def test_what_cannot_be_measured(labels, options, message):
    for measure in (measure_cells, measure_neurons):
        with pytest.raises(InputError, match=message):
            measure(labels, **({"voxel_size": (50, 4, 4)} | options))


def read_ply(path):
    header, data = path.read_bytes().split(b"end_header\n", 1)
    counts = [int(line.split()[2]) for line in header.splitlines() if line.startswith(b"element")]
    points = np.frombuffer(data, "<f4", 3 * counts[0]).reshape(-1, 3)
    faces = np.frombuffer(
        data, [("corners", "u1"), ("vertices", "<i4", 3)], counts[1], 12 * counts[0]
    )
    return points, faces["vertices"]


def test_meshes_are_closed_and_in_place(tmp_path):
    stack = np.zeros((6, 20, 20), np.uint32)
    stack[0:4, 5:15, 8:18] = LAST
    assert write_meshes(tmp_path / "a" / "meshes", stack, voxel_size=(50, 4, 4)) == 1
    points, faces = read_ply(tmp_path / "a" / "meshes" / f"neuron-{LAST}.ply")
    assert points.min(axis=0).tolist() == [8 * 4, 5 * 4, 0]
    assert points.max(axis=0).tolist() == [18 * 4, 15 * 4, 200]
    corners = points[faces]
    volume = np.linalg.det(corners.astype(float)).sum() / 6
    assert volume == pytest.approx(200 * 40 * 40, rel=0.1)  # above 0: they face outwards
    edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()


def test_skeletons_are_trees_in_nm(tmp_path):
    stack = np.zeros((12, 41, 81), np.uint32)
    stack[:, 10:31, 10:31] = LAST
    stack[6:, 10:31, 10:71] = LAST  # a branch within the section
    stack[:, 36:40, 60:64] = 1
    stack[0, 0, 0] = 2  # too short for a line
    assert write_skeletons(tmp_path, stack, voxel_size=(50, 4, 4)) == 2
    rows = np.loadtxt(tmp_path / f"neuron-{LAST}.swc")
    assert rows[:, 0].tolist() == list(range(1, len(rows) + 1))
    assert rows[0, 6] == -1
    assert (rows[1:, 6] >= 1).all()
    assert (rows[:, 6] < rows[:, 0]).all()
    assert rows[:, 2].max() > 60 * 4  # reaches into the branch, x first
    assert np.median(rows[:, 5]) == pytest.approx(11 * 4, abs=8)
    steps = np.linalg.norm(rows[1:, 2:5] - rows[rows[1:, 6].astype(int) - 1, 2:5], axis=1)
    table = measure_neurons(stack, voxel_size=(50, 4, 4))
    assert table["path_nm"][2] == pytest.approx(steps.sum(), rel=0.01)
    nothing = np.zeros((2, 4, 4), np.uint8)
    assert write_skeletons(tmp_path, nothing, voxel_size=(50, 4, 4)) == 0


def test_a_file_in_the_way_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="no folder can be made"):
        write_meshes(tmp_path / "file", np.ones((2, 4, 4), np.uint8), voxel_size=(50, 4, 4))


@pytest.mark.parametrize("job", [measure_cells, measure_neurons])
def test_numbers_above_those_of_63_bits_stay(job):
    stack = np.zeros((2, 20, 20), np.uint64)
    stack[:, 2:9], stack[:, 10:18] = 2**63 + 3, 7
    table = job(stack, voxel_size=(50, 4, 4), gap=20)
    names = table["cell" if job is measure_cells else "neuron"].tolist()
    assert set(names) == {7, 2**63 + 3}
    assert set(table["neighbour_1"].tolist()) == {7, 2**63 + 3}


@pytest.fixture
def neurons_file(tmp_path):
    stack = np.zeros((5, 30, 30), np.uint32)
    stack[:, 4:14, 4:26], stack[:, 16:26, 4:26] = 1, LAST
    write_tiff(tmp_path / "neurons.tif", stack, voxel_size=(50, 4, 4), holds="neurons")
    write_tiff(tmp_path / "cells.tif", stack, holds="cells")
    return tmp_path / "neurons.tif"


def test_the_verb(neurons_file):
    folder = neurons_file.parent
    call = ["measure", str(neurons_file), "-o", str(folder / "a.csv")]
    call += ["--meshes", str(folder / "m"), "--skeletons", str(folder / "s")]
    done = CliRunner().invoke(app, call, catch_exceptions=False)
    assert "2 neurons" in done.output
    lines = read_csv(folder / "a.csv")
    assert [line["neuron"] for line in lines] == ["1", str(LAST)]
    assert lines[0]["neighbour_1"] == str(LAST)
    assert len(list((folder / "m").iterdir())) == len(list((folder / "s").iterdir())) == 2


def test_the_verb_takes_cells_where_the_file_says_so(neurons_file):
    folder = neurons_file.parent
    call = ["measure", str(folder / "cells.tif"), "-o", str(folder / "a.csv"), "--json"]
    done = CliRunner().invoke(app, [*call, "--voxel-size", "50,4,4"], catch_exceptions=False)
    told = json.loads(done.output)
    assert (told["kind"], len(told["objects"])) == ("cells", 10)
    assert told["objects"][0]["area_nm2"] == 10 * 22 * 16


@pytest.mark.parametrize(
    ("options", "found"),
    [([], "2 neurons"), (["--kind", "cells", "--voxel-size", "50,4,4"], "10 cells")],
)
def test_the_verb_takes_the_folder_of_a_segmentation(neurons_file, options, found):
    folder = neurons_file.parent
    (folder / "run.json").write_text("{}")
    call = ["measure", str(folder), "-o", str(folder / "a.csv"), *options]
    assert found in CliRunner().invoke(app, call, catch_exceptions=False).output


@pytest.mark.parametrize(
    ("file", "options", "message"),
    [
        ("cells.tif", [], "say --voxel-size Z,Y,X in nm"),
        ("neurons.tif", ["--kind", "axons"], "--kind is cells or neurons"),
        ("cells.tif", ["--voxel-size", "50,4,4", "--meshes", "m"], "are made of neurons"),
        ("neurons.tif", ["--voxel-size", "50,4"], "three"),
    ],
)
def test_what_the_verb_refuses(neurons_file, file, options, message):
    folder = neurons_file.parent
    call = ["measure", str(folder / file), "-o", str(folder / "a.csv"), *options]
    with pytest.raises(InputError, match=message):
        CliRunner().invoke(app, call, catch_exceptions=False)
    assert not (folder / "a.csv").exists()
