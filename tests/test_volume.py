"""Blocks, the ledger, and a pass over the blocks; engines have their own file."""

import errno
import json
import os
import pickle
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axolemma import lock
from axolemma.engines import Serial, engine_from
from axolemma.errors import (
    AxolemmaError,
    ImageError,
    IncompleteError,
    InputError,
    SettingsError,
)
from axolemma.geometry import Box, grid
from axolemma.volume import Ledger, plan, run
from axolemma.volume import ledger as ledger_module
from axolemma.volume.ledger import pack, unpack
from volume_toys import Copy, Gather

BLOCKS = plan((20, 20, 20), (10, 10, 10), (1, 2, 3))
SETTINGS = {"model": {"name": "neurites", "halo": (1, 2, 3)}, "voxel": 4.0}


def go(folder, work, *, blocks=BLOCKS, engine="serial", settings=SETTINGS, **options):
    with Ledger(folder, settings) as ledger, engine_from(engine) as workers:
        results = run("copy", work, blocks, ledger=ledger, engine=workers, **options)
        return [tables["index"].item() for tables in results]


# Blocks


@st.composite
def plans(draw):
    axes = draw(st.integers(1, 3))
    sides = st.tuples(*[st.integers(1, 12)] * axes)
    return plan(draw(sides), draw(sides), draw(st.tuples(*[st.integers(0, 5)] * axes)))


@given(plans())
def test_write_boxes_tile_the_volume_and_are_aligned(blocks):
    count = np.zeros(blocks.shape, int)
    for number, block in enumerate(blocks):
        assert block.index == number
        count[block.write.slices] += 1
        assert all(a % side == 0 for a, side in zip(block.write.start, blocks.block, strict=True))
        assert block.read == block.write.grow(blocks.halo).clip(Box.of(blocks.shape))
    assert (count == 1).all()


@given(plans())
def test_a_plan_is_the_list_of_its_blocks(blocks):
    listed = list(blocks)
    assert [block.write for block in listed] == list(grid(blocks.shape, blocks.block))
    assert len(blocks) == len(listed)
    assert [blocks[i] for i in range(-len(listed), len(listed))] == listed * 2
    assert list(blocks[1::2]) == listed[1::2]
    with pytest.raises(IndexError):
        blocks[len(listed)]


def test_millions_of_blocks_are_made_when_asked_for():
    blocks = plan((10**6, 10**6, 10**6), (100, 100, 100), (8, 8, 8))
    assert len(blocks) == 10**12
    assert blocks[-1].write == Box((999_900,) * 3, (10**6,) * 3)
    assert str(blocks[10**8 + 1]) == "block 100000001 [100:200, 0:100, 100:200]"


def test_an_empty_volume_has_no_blocks():
    assert list(plan((0, 5), (2, 2), (1, 1))) == []


def test_wrong_plans():
    with pytest.raises(InputError, match="one number per axis"):
        plan((4, 4), (2, 2), (1,))
    with pytest.raises(InputError, match="sides of at least 1 voxel"):
        plan((4,), (0,), (1,))
    with pytest.raises(InputError, match="halo of at least 0"):
        plan((4,), (2,), (-1,))


# Tables


def test_tables_survive_packing():
    tables = {
        "file": np.arange(5, dtype=np.uint64),
        "none": np.zeros((0, 3), np.float32),
        "named": np.array([(1, 2.5)], [("id", "u8"), ("area", "f4")]),
    }
    found = unpack(pack(tables))
    assert list(found) == list(tables)
    for name, table in tables.items():
        np.testing.assert_array_equal(found[name], table)
        assert found[name].dtype == table.dtype
    assert pack(tables) == pack(tables)
    assert unpack(pack({})) == {}


def test_nothing_is_pickled():
    with pytest.raises(ValueError, match="Object arrays"):
        pack({"a": np.array([{}])})


# The ledger


def test_settings_that_differ_are_named(tmp_path):
    Ledger(tmp_path / "a", SETTINGS).close()
    Ledger(tmp_path / "a", SETTINGS).close()
    other = {"model": {"name": "neurites", "halo": (1, 2, 4)}, "voxel": 4.0}
    with pytest.raises(SettingsError, match=r"model\.halo = \[1, 2, 3\], this one \[1, 2, 4\]"):
        Ledger(tmp_path / "a", other)
    with pytest.raises(SettingsError, match=r"voxel = 4\.0, this one nothing"):
        Ledger(tmp_path / "a", {"model": SETTINGS["model"]})
    Ledger(tmp_path / "a", SETTINGS).close()  # a refusal leaves no lock


def test_folders_of_others_are_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="holds other files"):
        Ledger(tmp_path, SETTINGS)
    with pytest.raises(InputError, match="cannot be written, not a directory"):
        Ledger(tmp_path / "notes.txt" / "a", SETTINGS)
    (tmp_path / "settings.json").write_text("[]")  # as a training's folder has one
    with pytest.raises(InputError, match="holds other files"):
        Ledger(tmp_path, SETTINGS, afresh=lambda: None)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["notes.txt", "settings.json"]
    (tmp_path / "lock").touch()
    with pytest.raises(InputError, match="no job's settings file"):
        Ledger(tmp_path, SETTINGS)


def test_a_ledger_begins_afresh(tmp_path):
    with Ledger(tmp_path, SETTINGS) as books:
        books.open("pass").record(0, b"tables")
        with pytest.raises(InputError, match="another run is at work"):
            Ledger(tmp_path, {}, afresh=lambda: pytest.fail("called before the lock was held"))
        assert books.open("pass").done(0)
    with Ledger(tmp_path, {"other": 1}, afresh=lambda: None) as books:
        assert not books.open("pass").done(0)


def test_a_pass_has_a_plain_name(tmp_path):
    with (
        Ledger(tmp_path / "a", SETTINGS) as ledger,
        pytest.raises(InputError, match="cannot name a pass"),
    ):
        ledger.open("../copy")


def test_what_is_recorded_is_there_even_if_nothing_is_closed(tmp_path):
    ledger = Ledger(tmp_path / "a", SETTINGS)
    books = ledger.open("copy")
    books.record(7, b"seven")
    books.record(200, b"")
    copy = tmp_path / "b"  # the state that a kill would leave
    subprocess.run(["cp", "-r", tmp_path / "a", copy], check=True)
    ledger.close()
    with Ledger(copy, SETTINGS) as again:
        books = again.open("copy")
        assert [index for index in range(300) if books.done(index)] == [7, 200]
        assert list(books.packed([200, 7])) == [b"", b"seven"]


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_torn_last_line_is_mended(tmp_path, cut):
    with Ledger(tmp_path / "a", SETTINGS) as ledger:
        books = ledger.open("copy")
        books.record(0, b"zero")
        books.record(1, b"one")
    lines = tmp_path / "a" / "copy.jsonl"
    os.truncate(lines, lines.stat().st_size - cut)
    with Ledger(tmp_path / "a", SETTINGS) as ledger:
        books = ledger.open("copy")
        assert (books.done(0), books.done(1)) == (True, False)
        books.record(1, b"uno")
    with Ledger(tmp_path / "a", SETTINGS) as ledger:
        assert list(ledger.open("copy").packed([0, 1])) == [b"zero", b"uno"]
    assert (tmp_path / "a" / "copy.tables").read_bytes() == b"zerouno"


def test_damage_costs_only_what_is_damaged(tmp_path):
    with Ledger(tmp_path / "a", SETTINGS) as ledger:
        books = ledger.open("copy")
        for index in range(4):
            books.record(index, bytes([index] * 8))
    lines, tables = tmp_path / "a" / "copy.jsonl", tmp_path / "a" / "copy.tables"
    text = lines.read_text().splitlines()
    text[0] = text[0][:-3] + "\x00" + text[0][-2:]
    lines.write_text("\n".join(text) + "\n" + '{"a": 1}\n[1, 2, 3]\n[-1, 0, 0, 0]\n')
    content = bytearray(tables.read_bytes())
    content[17] ^= 1
    tables.write_bytes(content[:-1])
    with Ledger(tmp_path / "a", SETTINGS) as ledger:
        books = ledger.open("copy")
        assert [books.done(index) for index in range(4)] == [False, True, False, False]


def test_tables_damaged_under_way_are_told(tmp_path):
    with Ledger(tmp_path / "a", SETTINGS) as ledger:
        books = ledger.open("copy")
        books.record(0, b"zero")
        (tmp_path / "a" / "copy.tables").write_bytes(b"zorro")
        with pytest.raises(AxolemmaError, match="tables of block 0 are damaged; repeat"):
            list(books.packed([0]))


@pytest.mark.parametrize("engine", ["serial", "processes:2"])
def test_workers_read_what_was_told_while_the_driver_holds_the_ledger(tmp_path, engine):
    with Ledger(tmp_path / "a", SETTINGS) as ledger, engine_from(engine) as workers:
        told = run("copy", Copy(tmp_path), BLOCKS, ledger=ledger, engine=workers).shared()
        assert told.shared() is told
        gather = run("gather", Gather(told), BLOCKS[:3], ledger=ledger, engine=workers)
        for tables in gather:
            assert tables["index"].tolist() == list(range(8))
            assert (tables["pid"] == os.getpid()) == (engine == "serial")


def test_a_shelf_shows_the_blocks_that_are_done(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Ledger("a", SETTINGS) as ledger:
        books = ledger.open("copy")
        assert list(books.shelf().packed([])) == []
        books.record(7, b"seven")
        books.record(200, b"")
        shelf = pickle.loads(pickle.dumps(books.shelf()))
        with monkeypatch.context() as elsewhere:
            elsewhere.chdir("/")
            assert list(shelf.packed([200, 7])) == [b"", b"seven"]
        # Done again, its tables lie elsewhere; a new shelf knows where.
        books.forget(7)
        books.record(7, b"sept")
        assert list(books.shelf().packed([7])) == [b"sept"]
    assert list(shelf.packed([7])) == [b"sept"]
    assert shelf.index_file.stat().st_size == 128 + 201 * 24


def test_what_workers_cannot_read_is_told(tmp_path):
    with Ledger(tmp_path / "a", SETTINGS) as ledger:
        books = ledger.open("copy")
        books.record(0, b"zero")
        shelf = books.shelf()
        (tmp_path / "a" / "copy.tables").write_bytes(b"zorro")
        with pytest.raises(AxolemmaError, match=r"copy.tables: the tables of block 0 are damaged"):
            list(shelf.packed([0]))
        for content in (b"", b"\x93NUMPY"):
            shelf.index_file.write_bytes(content)
            with pytest.raises(AxolemmaError, match="what copy has told cannot be read here"):
                list(shelf.packed([0]))
        shelf.index_file.unlink()
        with pytest.raises(AxolemmaError, match=r"no such file.*; all workers must reach"):
            list(shelf.packed([0]))


def test_a_part_of_the_tables_is_read(tmp_path):
    with Ledger(tmp_path / "a", SETTINGS) as ledger:
        results = run("copy", Copy(tmp_path), BLOCKS, ledger=ledger, engine=Serial())
        (one, two) = results.only(slice(2, 4), "st")
        assert list(one) == ["start"]
        assert two["start"].tolist() == [0, 10, 10]


def test_the_ledger_of_many_blocks_is_small(tmp_path):
    blocks = 20_000
    content = b"x" * 100
    entry = [len(content), zlib.crc32(content)]
    with Ledger(tmp_path / "a", SETTINGS):
        lines = (json.dumps([i, i * 100, *entry]) for i in range(blocks))
        (tmp_path / "a" / "copy.jsonl").write_text("".join(f"{line}\n" for line in lines))
        (tmp_path / "a" / "copy.tables").write_bytes(content * blocks)
    with Ledger(tmp_path / "a", SETTINGS) as ledger:
        books = ledger.open("copy")
        assert all(books.done(index) for index in range(blocks))
    assert (tmp_path / "a" / "copy.jsonl").stat().st_size < 40 * blocks


HOLD = """
import sys, time
from axolemma.volume import Ledger
ledger = Ledger(sys.argv[1], {})
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "a"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_two_at_once_are_refused_and_a_killed_one_is_not_waited_for(tmp_path, holder):
    with pytest.raises(InputError, match=f"another run is at work here, process {holder.pid} on"):
        Ledger(tmp_path / "a", {})
    holder.kill()
    holder.wait()
    Ledger(tmp_path / "a", {}).close()


def test_without_locks_of_the_system_the_process_decides(tmp_path, holder, monkeypatch):
    def none(_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "_lock", none)
    with pytest.raises(InputError, match=f"process {holder.pid}"):
        Ledger(tmp_path / "a", {})
    holder.kill()
    holder.wait()
    with Ledger(tmp_path / "a", {}), pytest.raises(InputError, match=f"process {os.getpid()}"):
        Ledger(tmp_path / "a", {})
    (tmp_path / "a" / "lock").write_text('["elsewhere", 1, "2026-01-01"]')
    with pytest.raises(InputError, match=r"on elsewhere, .* remove .*lock"):
        Ledger(tmp_path / "a", {})


# A pass


def test_a_pass_gives_the_tables_in_order_and_a_rerun_computes_nothing(tmp_path):
    work, told = Copy(tmp_path), []
    assert go(tmp_path / "a", work, advance=told.append) == list(range(8))
    assert [progress.done for progress in told] == list(range(9))
    assert told[0].block is None
    assert told[-1].seconds_left == 0
    assert told[-1].voxels_per_second > 0
    assert go(tmp_path / "a", work) == list(range(8))
    assert work.calls() == list(range(8))


def test_results_are_a_sequence(tmp_path):
    with Ledger(tmp_path / "a", SETTINGS) as ledger:
        results = run("copy", Copy(tmp_path), BLOCKS, ledger=ledger, engine=Serial())
        assert len(results) == 8
        assert results[-1]["start"].tolist() == [10, 10, 10]
        assert [tables["index"].item() for tables in results[2:4]] == [2, 3]


def test_only_some_blocks_may_be_wanted(tmp_path):
    assert go(tmp_path / "a", Copy(tmp_path), blocks=BLOCKS[5:2:-2]) == [5, 3]
    assert go(tmp_path / "a", Copy(tmp_path)) == list(range(8))
    assert Copy(tmp_path).calls() == [5, 3, 0, 1, 2, 4, 6, 7]


def test_blocks_that_fail_are_tried_again_after_the_others(tmp_path):
    work = Copy(tmp_path, failing=(1, 4), times=2)
    assert go(tmp_path / "a", work) == list(range(8))
    assert work.calls() == [0, 1, 2, 3, 4, 5, 6, 7, 1, 4, 1, 4]


def test_blocks_that_keep_failing_are_listed_and_done_by_the_next_run(tmp_path):
    with pytest.raises(IncompleteError, match="2 of 8 blocks are missing") as caught:
        go(tmp_path / "a", Copy(tmp_path, failing=(1, 4)))
    said = str(caught.value)
    assert "block 1 [0:10, 0:10, 10:20]: OSError: no luck with 1; block 4" in said
    assert "the same command does just these again" in said
    assert caught.value.exit_code == 1
    assert [block.index for block, _ in caught.value.failed] == [1, 4]
    assert "volume_toys.py" in caught.value.failed[0][1].__notes__[0]
    assert len(json.loads((tmp_path / "a" / "copy.failed.json").read_text())) == 2
    before = len(Copy(tmp_path).calls())
    assert go(tmp_path / "a", Copy(tmp_path)) == list(range(8))
    assert Copy(tmp_path).calls()[before:] == [1, 4]
    assert not (tmp_path / "a" / "copy.failed.json").exists()


def test_wrong_input_is_not_tried_again(tmp_path):
    work = Copy(tmp_path, failing=(1,), error=SettingsError)
    with pytest.raises(SettingsError, match="no luck with 1"):
        go(tmp_path / "a", work)
    assert work.calls() == [0, 1]


def test_a_damaged_place_of_the_input_lets_the_others_go_on(tmp_path):
    work = Copy(tmp_path, failing=(1,), error=ImageError)
    with pytest.raises(IncompleteError, match=r"1 of 8 .*\]: no luck with 1; what is done"):
        go(tmp_path / "a", work)
    assert work.calls() == list(range(8))


def test_when_everything_fails_the_rest_is_not_tried(tmp_path):
    blocks = plan((1000,), (1,), (0,))
    work = Copy(tmp_path, failing=tuple(range(1000)))
    with pytest.raises(IncompleteError, match=r"1000 of 1000 .* 900 were not tried") as caught:
        go(tmp_path / "a", work, blocks=blocks)
    assert len(work.calls()) == 100
    assert "95 more are listed in" in str(caught.value)


def test_errors_are_kept_of_blocks_that_were_not_tried_again(tmp_path):
    failing = tuple(index for index in range(400) if index % 2)
    work = Copy(tmp_path, failing=failing)
    with pytest.raises(IncompleteError, match="200 of 400 blocks are missing") as caught:
        go(tmp_path / "a", work, blocks=plan((400,), (1,), (0,)))
    assert [block.index for block, _ in caught.value.failed] == list(failing)
    assert len(work.calls()) == 400 + 100


def test_what_is_gone_or_wrong_is_done_again(tmp_path):
    work = Copy(tmp_path)
    go(tmp_path / "a", work)
    (tmp_path / "2.out").unlink()
    (tmp_path / "5.out").write_text("else")
    assert go(tmp_path / "a", work) == list(range(8))
    assert work.calls() == list(range(8))
    assert go(tmp_path / "a", work, check=work.right) == list(range(8))
    assert work.calls() == [*range(8), 2, 5]


@pytest.mark.parametrize(("times", "again"), [(2, []), (3, [4])])
def test_what_a_store_does_not_give_at_once_is_not_done_again(tmp_path, times, again):
    work, asked = Copy(tmp_path), []

    def right(block, tables):
        asked.append(block.index)
        if block.index == 4 and asked.count(4) <= times:
            raise OSError("the store does not answer")
        return work.right(block, tables)

    go(tmp_path / "a", work)
    assert go(tmp_path / "a", work, check=right) == list(range(8))
    assert work.calls() == [*range(8), *again]
    assert sorted(asked) == sorted([*range(8), 4, 4])


def test_ctrl_c_keeps_what_is_done(tmp_path):
    def press(progress):
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "a", Copy(tmp_path), advance=press)
    assert go(tmp_path / "a", Copy(tmp_path)) == list(range(8))
    assert Copy(tmp_path).calls() == list(range(8))


def test_a_full_disk_is_one_sentence_and_a_later_run_goes_on(tmp_path, monkeypatch):
    real = ledger_module._write

    def full(file, content):
        if Path(file.name).suffix == ".jsonl" and content.startswith(b"[4,"):
            real(file, content[:5])  # as much as there was room for
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file, content)

    monkeypatch.setattr(ledger_module, "_write", full)
    with pytest.raises(AxolemmaError, match="no space left on device; make room") as caught:
        go(tmp_path / "a", Copy(tmp_path))
    assert caught.value.exit_code == 1
    monkeypatch.undo()
    assert go(tmp_path / "a", Copy(tmp_path)) == list(range(8))
    assert Copy(tmp_path).calls() == [0, 1, 2, 3, 4, 4, 5, 6, 7]


def test_a_disk_that_may_not_be_written_is_wrong_input(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(ledger_module, "_write", refuse)
    with pytest.raises(InputError, match="permission denied; choose another folder"):
        go(tmp_path / "a", Copy(tmp_path))
