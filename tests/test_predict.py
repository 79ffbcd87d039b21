import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from axolemma import models, quality
from axolemma import predict as predict_room
from axolemma.datasets import phantom_pairs
from axolemma.errors import AxolemmaError, InputError, SettingsError
from axolemma.geometry import Box, grid
from axolemma.modelfile import load_model, state_hash
from axolemma.predict import (
    POSES,
    choose_device,
    choose_precision,
    glimpses,
    membrane_map,
    neighbours,
    place,
    predict_part,
    predict_section,
    ready,
)
from axolemma.quality import Contrast, normalise
from axolemma.sampling import resampled, samples


def polarity_of(stack, **options):
    return quality.polarity_of(lambda box: stack[box.slices], stack.shape, **options)


def resized(sections, shape):
    axes = [samples(0, new, old, new) for old, new in zip(sections.shape[1:], shape, strict=True)]
    return resampled(sections, *axes)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = models.build("resunet", width=8)
    # Fresh residual branches are silent and would hide a seam: make every one speak.
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.3, 0.8)
    return network.eval()


def stack_of(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, 255, shape).astype(dtype)


def predict(network, stack, **options):
    return np.stack(list(membrane_map(network, stack, precision="fp32", device="cpu", **options)))


class Limited(nn.Module):
    """A network for which memory is too small above so many pixels at once."""

    def __init__(self, network, most, error=None):
        super().__init__()
        # With nothing left to fold into it, it is not copied either.
        self.network, self.most = models.fused(network), most
        self.error = error or torch.cuda.OutOfMemoryError("CUDA out of memory.")
        self.stride, self.passes = network.stride, []

    def forward(self, x):
        self.passes.append((x.shape[0], *x.shape[2:]))
        if x[:, 0].numel() > self.most:
            raise self.error
        return self.network(x)


@pytest.fixture
def together(monkeypatch):
    """Let the processor take several poses at once, as a GPU does."""
    monkeypatch.setitem(predict_room._AT_ONCE, "cpu", 2048**2)


@pytest.mark.parametrize("shape", [(64, 64), (64, 96)])
@pytest.mark.parametrize("average", POSES)
def test_poses_at_once_are_those_one_by_one(network, shape, average, monkeypatch):
    stack = stack_of(1, *shape)
    one_by_one = predict(network, stack, average=average)
    monkeypatch.setitem(predict_room._AT_ONCE, "cpu", 2048**2)
    limited = Limited(network, 2048**2)
    np.testing.assert_allclose(predict(limited, stack, average=average), one_by_one, atol=1e-6)
    many = len(POSES[average])
    square = shape[0] == shape[1]
    assert len(limited.passes) == (1 if square or average != "dihedral" else 2)
    assert sum(batch for batch, *_ in limited.passes) == many


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] CPUAllocator: can't allocate memory"),
        RuntimeError("CUDNN_STATUS_ALLOC_FAILED"),
    ],
    ids=str,
)
def test_too_many_poses_are_halved_for_good(network, together, caplog, error):
    stack = stack_of(2, 96, 96)
    limited = Limited(network, 3 * 96**2, error)
    found = predict(limited, stack, average="dihedral")
    assert [batch for batch, *_ in limited.passes] == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    assert [line.split(" (")[0] for line in caplog.messages] == [
        f"too little memory for {many} × 96 × 96 pixels at once" for many in (8, 4)
    ]
    assert str(error) in caplog.text
    assert "going on with half of it" in caplog.text
    np.testing.assert_allclose(found, predict(network, stack, average="dihedral"), atol=1e-6)


def test_a_tile_that_is_too_large_is_cut(network, caplog):
    stack = stack_of(1, 900, 1300)
    limited, told = Limited(network, 800**2), []
    found = predict(limited, stack, average="flips", advance=told.append)
    np.testing.assert_allclose(found, predict(network, stack, average="flips"), atol=1e-3)
    assert sum(told) == pytest.approx(stack.size, abs=10)
    assert [line.split(" at")[0] for line in caplog.messages] == [
        "too little memory for 1 × 928 × 1312 pixels"
    ]


def test_a_tile_that_is_cut_stays_within_its_range(network, caplog):
    class Sure(Limited):
        def forward(self, x):
            return super().forward(x) + 1e3

    found = predict(Sure(network, 800**2), stack_of(1, 900, 1300))
    assert "too little memory" in caplog.text
    assert found.max() == 1


def test_weights_that_are_rounded_once_predict_as_those_rounded_at_every_call(network):
    stack, before = stack_of(1, 96, 128), state_hash(network)
    cpu = torch.device("cpu")
    (found,) = membrane_map(network, stack, precision="bf16", device="cpu", average="flips")
    assert state_hash(network) == before
    section = normalise(stack[0])[None]
    options = {"precision": "bf16", "device": cpu, "average": "flips"}
    expected = predict_section(ready(network, cpu), section, **options)
    np.testing.assert_allclose(found, expected, atol=5e-3)
    assert next(ready(network, cpu, "bf16").parameters()).dtype == torch.bfloat16
    assert np.abs(found - predict(network, stack, average="flips")[0]).max() > 0


def test_sections_are_normalised_in_double_precision():
    section = stack_of(40, 50)
    mean, deviation = section.mean(dtype="f8"), section.std(dtype="f8")
    expected = ((section - mean) / deviation).astype(np.float32)
    np.testing.assert_array_equal(normalise(section, Contrast(mean, deviation)), expected)


def test_memory_for_no_tile_at_all(network, caplog):
    with pytest.raises(AxolemmaError, match=r"memory for this network even on \d+ × \d+"):
        predict(Limited(network, 100), stack_of(1, 900, 900))
    assert len(caplog.messages) > 1


def test_other_failures_are_not_taken_for_want_of_memory(network, caplog):
    limited = Limited(network, 100, RuntimeError("a mistake"))
    with pytest.raises(RuntimeError, match="a mistake"):
        predict(limited, stack_of(1, 64, 64))
    assert not caplog.messages


@pytest.mark.parametrize("shape", [(900, 700), (333, 1100)])
@pytest.mark.parametrize("average", ["none", "dihedral"])
def test_tiled_equals_untiled(network, shape, average):
    stack = stack_of(1, *shape)
    whole = predict(network, stack, average=average)
    tiled = predict(network, stack, average=average, tile=512)
    assert whole.std() > 0.01
    np.testing.assert_allclose(tiled, whole, atol=1e-3)


def test_magnified_and_tiled_equals_untiled(network):
    stack = stack_of(1, 720, 300)
    whole = predict(network, stack, magnification=1.3, average="flips")
    tiled = predict(network, stack, magnification=1.3, average="flips", tile=512)
    assert whole.shape == stack.shape
    np.testing.assert_allclose(tiled, whole, atol=1e-3)


def test_magnified_is_predicted_large_and_shrunk(network):
    section = normalise(stack_of(1, 40, 64)[0])[None]
    large = resized(section, (60, 96))
    options = {"device": torch.device("cpu"), "average": "none"}
    expected = resized(predict_section(network, large, **options)[None], (40, 64))[0]
    found = predict_section(network, section, magnification=1.5, **options)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("side", "magnification"), [(512, 2.3), (96, 3), (40, 0.4)])
def test_a_map_never_leaves_its_range(side, magnification):
    class Sure(nn.Module):
        stride = 2

        def forward(self, x):
            return torch.full_like(x[:, :1], 99.0)

    section = np.zeros((1, side, side), np.float32)
    found = predict_section(
        Sure(), section, magnification=magnification, device=torch.device("cpu")
    )
    assert found.shape == (side, side)
    assert 0.999 < found.min() <= found.max() <= 1


def test_neighbours_are_magnified_with_their_section(network):
    torch.manual_seed(1)
    three = models.build("resunet", width=4, depth=2, in_channels=3).eval()
    stack = stack_of(4, 33, 47)
    large = np.stack([resized(normalise(s)[None], (50, 70))[0] for s in stack])
    expected = [
        resized(
            predict_section(three, large[neighbours(z, 1, 4)], device=torch.device("cpu"))[None],
            (33, 47),
        )[0]
        for z in range(4)
    ]
    options = {"context": 1, "precision": "fp32", "device": "cpu"}
    found = np.stack(list(membrane_map(three, stack, magnification=1.5, **options)))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "magnification", "average", "block"),
    [
        ((700, 530), 1.0, "dihedral", (320, 210)),
        ((333, 900), 1.0, "none", (97, 301)),
        ((420, 380), 1.3, "flips", (200, 150)),
        ((900, 840), 0.45, "none", (500, 410)),
    ],
)
def test_parts_are_those_of_the_whole(network, shape, magnification, average, block):
    section = normalise(stack_of(*shape))[None]
    options = {
        "magnification": magnification,
        "average": average,
        "device": torch.device("cpu"),
        "tile": 512,
    }
    whole = predict_section(network, section, **options)
    asked = []

    def read(box):
        asked.append(box)
        return section[:, *box.slices]

    for part in grid(shape, block):
        found = predict_part(network, read, shape, part, **options)
        np.testing.assert_allclose(found, whole[part.slices], atol=1e-3)
    assert all(box.clip(Box.of(shape)) == box for box in asked)
    assert max(box.shape[0] for box in asked) * magnification <= 512 + 2 * 32 + 8


@pytest.mark.parametrize("shape", [(1, 1, 2), (2, 17, 40), (1, 64, 5)])
def test_any_size(network, shape):
    map_ = predict(network, stack_of(*shape))
    assert map_.shape == shape
    assert map_.dtype == np.float32
    assert ((map_ >= 0) & (map_ <= 1)).all()


@pytest.mark.parametrize(("average", "turns"), [("half-turn", 2), ("flips", 2), ("dihedral", 1)])
def test_averages_turn_with_the_image(network, average, turns):
    stack = stack_of(1, 64, 96)
    turned = np.ascontiguousarray(np.rot90(stack, turns, (1, 2)))
    expected = np.rot90(predict(network, stack, average=average), turns, (1, 2))
    np.testing.assert_allclose(predict(network, turned, average=average), expected, atol=1e-5)


def test_an_average_is_the_mean_of_its_poses(network):
    stack = stack_of(1, 64, 32)
    poses = [
        np.flip(predict(network, np.ascontiguousarray(np.flip(stack, axes))), axes)
        for axes in ((), (1,), (2,), (1, 2))
    ]
    found = predict(network, stack, average="flips")
    np.testing.assert_allclose(found, np.mean(poses, axis=0), atol=1e-6)


def test_contrast_and_dtype_do_not_matter(network):
    stack = stack_of(1, 48, 48)
    plain = predict(network, stack)
    for other in (stack.astype(np.uint16) * 200 + 9, stack.astype(np.float32) / 255 - 3):
        np.testing.assert_allclose(predict(network, other), plain, atol=1e-4)


def test_neighbours_are_given_and_repeated_at_the_ends():
    assert neighbours(0, 1, 3).tolist() == [0, 0, 1]
    assert neighbours(1, 1, 3).tolist() == [0, 1, 2]
    assert neighbours(2, 2, 3).tolist() == [0, 1, 2, 2, 2]
    assert neighbours(0, 0, 1).tolist() == [0]


def test_a_network_with_neighbours():
    network = models.build("resunet", width=4, depth=2, in_channels=3)
    assert predict(network, stack_of(2, 20, 20), context=1).shape == (2, 20, 20)


def test_progress_counts_every_pixel(network):
    seen = []
    predict(network, stack_of(2, 700, 400), tile=512, advance=seen.append)
    assert sum(seen) == pytest.approx(2 * 700 * 400, rel=1e-3)


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<u4", "<i4", ">i4", "<f2", ">f4", "<f8", "g"])
@pytest.mark.parametrize("magnification", [1, 1.5])
def test_a_map_hardly_depends_on_the_dtype_of_the_image(dtype, magnification):
    network = models.build("resunet", width=8, depth=2).eval()
    stack = stack_of(1, 70, 90)
    expected = predict(network, stack, magnification=magnification)
    other = stack.astype(dtype)
    other.flags.writeable = False
    found = predict(network, other, magnification=magnification)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_large_values_lose_nothing():
    network = models.build("resunet", width=8, depth=2).eval()
    stack = stack_of(1, 70, 90)
    for magnification in (1, 1.5):
        expected = predict(network, stack, magnification=magnification)
        found = predict(network, stack.astype(np.int32) + 2**30, magnification=magnification)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_normalised_sections_have_mean_0_and_deviation_1():
    section = normalise(stack_of(20, 30))
    assert section.dtype == np.float32
    assert section.mean() == pytest.approx(0, abs=1e-6)
    assert section.std() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("stack", "match"),
    [
        (
            np.stack([stack_of(8, 8), np.full((8, 8), 7, np.uint8)]),
            "section 1: all pixels .* are 7",
        ),
        (np.full((1, 8, 8), np.nan, np.float32), "section 0: .*not finite"),
        (np.zeros((8, 8)), r"axes \(Z, Y, X\), this array has shape \(8, 8\)"),
    ],
)
def test_what_cannot_be_predicted(network, stack, match):
    with pytest.raises(InputError, match=match):
        predict(network, stack)


def test_devices(monkeypatch):
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in ("cpu", "cuda")
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "device_count", lambda: 1)
        assert choose_device("cuda:0") == torch.device("cuda", 0)
        with pytest.raises(SettingsError, match="no device 'cuda:1' for this process, which sees"):
            choose_device("cuda:1")
    with pytest.raises(SettingsError, match="unknown device 'tpu'"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(SettingsError, match="'cuda' is not available"):
            choose_device("cuda")


@pytest.mark.parametrize(
    ("able", "expected"),
    [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx512_f": True}, "fp32")],
)
def test_bf16_only_where_it_is_native(monkeypatch, able, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert choose_precision("auto", torch.device("cpu")) == expected
    assert choose_precision("bf16", torch.device("cpu")) == "bf16"


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s,
        lambda s: ndimage.zoom(s, 0.5, order=1),
        lambda s: ndimage.zoom(s, 1.5, order=1),
        lambda s: s + np.random.default_rng(0).normal(0, s.std(), s.shape),
        lambda s: s**2.5,
        lambda s: s**0.4,
        lambda s: ndimage.gaussian_filter(s, 2),
        lambda s: s[100:228, 100:228],
    ],
    ids=["plain", "small", "large", "noise", "darker", "brighter", "blur", "crop"],
)
def test_polarity_is_seen_whatever_the_contrast(change):
    section = change(phantom_pairs((1, 384, 384)).images[0] / 255.0)
    assert polarity_of(section[None]) == "dark"
    assert polarity_of(1 - section[None]) == "bright"


@pytest.mark.parametrize(
    "scale",
    [
        lambda s: (2000 + 0.12 * s).astype(np.uint16),
        lambda s: (20000 - 200 + s).astype(np.int16),
        lambda s: s.astype(np.uint32) + 4_000_000_000,
        lambda s: s.astype(np.float32) / 255 + 1e3,
        lambda s: np.rint(120 + s / 50).astype(np.uint8),
        lambda s: s - 1e6,
    ],
    ids=["12 bits", "int16", "uint32", "float", "five levels", "negative"],
)
@pytest.mark.parametrize("magnification", [0.5, 1.0, 2.0])
def test_polarity_does_not_depend_on_the_offset(scale, magnification):
    """A camera's grey values have an offset of many deviations."""
    side = round(384 / magnification)
    section = resized(phantom_pairs((1, 384, 384)).images, (side, side))[0].astype(float)
    for polarity, values in (("dark", section), ("bright", 255 - section)):
        assert polarity_of(scale(values)[None], magnification=magnification) == polarity


def test_polarity_is_that_of_most_of_the_tissue():
    stack = phantom_pairs((5, 256, 256)).images
    for wrong in (255 - stack[2], np.random.default_rng(0).integers(126, 131, (256, 256))):
        some = stack.copy()
        some[2] = wrong
        assert polarity_of(some) == "dark"
        assert polarity_of(255 - some) == "bright"
    resin = np.random.default_rng(0).normal(200, 4, (1, 256, 1700))
    resin[:, :, :256] = stack[:1]
    framed = np.full((1, 900, 900), 255, np.uint8)
    framed[:, 300:556, 300:556] = stack[:1]
    for section in (resin, framed):
        assert polarity_of(section) == "dark"
        assert polarity_of(255 - section) == "bright"


def test_without_lines_membranes_are_taken_for_dark():
    noise = np.random.default_rng(0).normal(size=(1, 128, 128))
    assert polarity_of(noise) == polarity_of(-noise) == "dark"


def test_where_nothing_is_seen_membranes_are_taken_for_dark():
    assert polarity_of(np.zeros((3, 64, 64))) == "dark"


def test_parts_of_a_trained_network_are_those_of_the_whole():
    # Random weights hardly look around; trained ones use all that they can see.
    network = place(load_model("neurites").network, torch.device("cpu")).eval()
    section = normalise(phantom_pairs((1, 700, 460)).images[0])[None]
    options = {"device": torch.device("cpu")}
    whole = predict_section(network, section, **options)
    tiled = predict_section(network, section, tile=512, **options)
    np.testing.assert_allclose(tiled, whole, atol=1e-3)
    part = Box((330, 200), (500, 300))
    found = predict_part(network, lambda box: section[:, *box.slices], (700, 460), part, **options)
    np.testing.assert_allclose(found, whole[part.slices], atol=1e-3)


def test_maps_go_where_they_are_wanted():
    network, stack = models.build("resunet", width=4, depth=2), phantom_pairs((2, 96, 80)).images
    out = np.full(stack.shape, np.nan, np.float32)
    maps = list(membrane_map(network, stack, precision="fp32"))
    given = list(membrane_map(network, stack, precision="fp32", out=out))
    assert np.shares_memory(given[1], out)
    np.testing.assert_array_equal(out, maps)


def test_prediction_leaves_the_weights_as_they_are():
    network = models.build("resunet", width=4, depth=2)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    list(membrane_map(network, phantom_pairs((1, 64, 64)).images, precision="bf16"))
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_glimpses_are_parts_of_what_is_predicted():
    stack = stack_of(3, 140, 200, dtype=np.uint16)
    parts = glimpses(stack, 5, polarity="bright", context=1, side=64)
    assert [part.shape for part in parts] == [(3, 64, 64)] * 5
    bright = [-normalise(section) for section in stack]
    tiles = [s[y : y + 64, x : x + 64] for s in bright for y in (0, 64) for x in (0, 64, 128)]
    for part in parts:
        assert any(np.array_equal(part[1], tile) for tile in tiles)
    assert glimpses(stack, 9, magnification=0.2)[0].shape == (1, 28, 28)


def test_int8_is_for_images_in_memory():
    with pytest.raises(SettingsError, match="int8 is for `segment` of an image in memory"):
        choose_precision("int8", torch.device("cpu"))
