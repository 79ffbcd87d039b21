"""The ISBI 2012 challenge: 30 annotated sections of a fly larva's ventral nerve cord.

Each stack is 30 × 512 × 512, uint8, 50 × 4 × 4 nm a voxel. The stacks are looked for where the
caller says, in ``$AXOLEMMA_DATA`` and its subfolder ``isbi2012``, and in the user's cache; where
they are in none of them, the public archive is fetched into the cache.
"""

import hashlib
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

import platformdirs
from rich.console import Console

from axolemma.datasets.download import fetch
from axolemma.datasets.pairs import Pairs
from axolemma.errors import DownloadError, ImageError, InputError, nearest
from axolemma.images import Stack, check_pair, read, to_membrane

__all__ = ["SHA256", "TERMS", "URL", "VOXEL_SIZE", "fetch_archive", "load", "load_images"]

URL = "https://downloads.imagej.net/ISBI-2012-challenge.zip"
VOXEL_SIZE = (50.0, 4.0, 4.0)
TERMS = (
    "ISBI 2012 challenge data: free to use for generating or testing non-commercial image"
    " segmentation software. Cite Arganda-Carreras et al. 2015, Front. Neuroanat. 9:142, and"
    " Cardona et al. 2010, PLoS Biology 8(10): e1000502."
)

# Of the pixels in C order, not of the files: a stack saved again stays the same stack. The test
# labels were kept secret for long and have no known hash.
SHA256 = {
    "train-volume.tif": "200da3d452d726e6c9ca1ce04b869d4edb727320d23b516d01cce707dc8c4760",
    "train-labels.tif": "a7cb64000a1a7e542682927e19c91339f58f9f178e0bcce4e207371116f0ca36",
    "test-volume.tif": "1b58fa7ec1d0ff9d39a855622db3ff66a97863036339b0d04be51b2f5a99b0e9",
}
TEST_LABELS = "test-labels.tif"

# What the standard library raises over a broken or unreadable archive.
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)

Part = Literal["train", "test"]


def load(
    part: Part = "train",
    *,
    folder: str | Path | None = None,
    hashes: Mapping[str, str] = SHA256,
    url: str | None = None,
    cache: Path | None = None,
) -> Pairs:
    """Load the annotated sections of the challenge, fetching them once where they are absent.

    Parameters
    ----------
    part
        ``"train"``, or ``"test"`` where the once secret ``test-labels.tif`` lies beside the test
        volume. The test part is for looking at, never for choosing anything.
    folder
        Where the files lie; nothing is fetched when it is given.
    hashes
        SHA-256 of each stack's pixels, by file name.
    url
        Where the archive is; None for ``$AXOLEMMA_ISBI2012_URL`` and else the public one.
    cache
        Where a fetched archive is kept; None for the user's cache.

    Returns
    -------
    Pairs
        30 sections, uint8, with their voxel size and `TERMS`.

    Raises
    ------
    ImageError
        If a stack is not the challenge's, pixel for pixel.
    InputError
        If `folder` lacks the files, or the test part has no labels.
    DownloadError
        If the archive cannot be fetched whole.
    """
    volume = load_images(part, folder=folder, hashes=hashes, url=url, cache=cache)
    path = Path(volume.source).with_name(f"{part}-labels.tif")
    if not path.is_file():
        raise InputError(f"{path}: the {part} labels are not there; only its images can be used")
    labels = _checked(path, hashes)
    check_pair(volume, labels)
    truth, said = to_membrane(labels, truth_is="interior")
    return Pairs(
        name=f"isbi2012 {part}",
        images=volume.array,
        truth=truth,
        voxel_size=VOXEL_SIZE,
        terms=TERMS,
        notes=volume.notes + labels.notes + said,
    )


def load_images(
    part: Part = "test",
    *,
    folder: str | Path | None = None,
    hashes: Mapping[str, str] = SHA256,
    url: str | None = None,
    cache: Path | None = None,
) -> Stack:
    """Load the images of one part without their truth; parameters and errors as `load`."""
    if part not in get_args(Part):
        raise InputError(f"'{part}' is no part of isbi2012{nearest(part, get_args(Part))}")
    home = _find(part, folder=folder, hashes=hashes, url=url, cache=cache)
    return replace(_checked(home / f"{part}-volume.tif", hashes), voxel_size=VOXEL_SIZE)


def fetch_archive(
    cache: Path, *, url: str | None = None, hashes: Mapping[str, str] = SHA256, pause: float = 1.0
) -> None:
    """Fetch the challenge's archive and put its stacks into `cache`, all of them or none.

    Parameters
    ----------
    cache
        The folder for the stacks, made where it is missing.
    url, hashes
        As in `load`.
    pause
        Seconds before a second attempt.

    Raises
    ------
    DownloadError
        If the archive does not arrive whole, lacks a stack, or holds another one.
    """
    url = url or os.environ.get("AXOLEMMA_ISBI2012_URL") or URL
    archive = cache / "ISBI-2012-challenge.zip"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        fetch(url, archive, pause=pause)
        try:
            _unpack(archive, cache, hashes)
        except DAMAGE:  # perhaps pieces of two versions: once more, from the first byte
            archive.unlink()
            fetch(url, archive, pause=pause)
            _unpack(archive, cache, hashes)
    except DAMAGE as error:
        raise DownloadError(
            f"{url}: the archive is damaged ({error}); {_by_hand(cache)}"
        ) from error
    except (DownloadError, ImageError) as error:
        raise DownloadError(f"{error}; {_by_hand(cache)}") from error
    except OSError as error:
        raise DownloadError(f"{cache}: cannot be written, {error}; {_by_hand(cache)}") from error
    finally:
        with suppress(OSError):
            archive.unlink()
    Console(stderr=True, soft_wrap=True).print(TERMS, highlight=False)


def _find(
    part: Part,
    *,
    folder: str | Path | None,
    hashes: Mapping[str, str],
    url: str | None,
    cache: Path | None,
) -> Path:
    """Return the folder that holds the stacks of `part`, after fetching them where need be."""
    needed = [f"{part}-volume.tif"] + (["train-labels.tif"] if part == "train" else [])
    cache = cache or platformdirs.user_cache_path("axolemma") / "isbi2012"
    root = folder or os.environ.get("AXOLEMMA_DATA")
    homes = [Path(root), Path(root) / "isbi2012"] if root else []
    for home in homes if folder else [*homes, cache]:
        if all((home / name).is_file() for name in needed):
            return home
    if folder:
        raise InputError(
            f"{folder}: does not hold {' and '.join(needed)}, nor does isbi2012/ in it"
        )
    fetch_archive(cache, url=url, hashes=hashes)
    return cache


def _unpack(archive: Path, cache: Path, hashes: Mapping[str, str]) -> None:
    """Put the stacks into `cache`, wherever they lie in the archive, once all are found right."""
    with (
        tempfile.TemporaryDirectory(dir=cache, prefix=".unpacking-") as folder,
        zipfile.ZipFile(archive) as packed,
    ):
        # By the last part of the name alone: a path in an archive could lead anywhere.
        members = {PurePosixPath(member.filename).name: member for member in packed.infolist()}
        missing = [name for name in hashes if name not in members]
        if missing:
            raise DownloadError(f"{archive.name}: the archive lacks {' and '.join(missing)}")
        names = [*hashes, *({TEST_LABELS} & members.keys() - hashes.keys())]
        for name in names:
            with packed.open(members[name]) as source, (Path(folder) / name).open("wb") as target:
                shutil.copyfileobj(source, target)
            if not _is_original(read(Path(folder) / name), name, hashes):
                raise DownloadError(
                    f"{archive.name}: the pixels of its {name} are not the challenge's (SHA-256"
                    " differs)"
                )
        for name in names:
            (Path(folder) / name).replace(cache / name)


def _checked(path: Path, hashes: Mapping[str, str]) -> Stack:
    """Read a stack and compare its pixels with the challenge's."""
    stack = read(path)
    if not _is_original(stack, path.name, hashes):
        raise ImageError(
            f"{path}: its pixels are not those of the challenge's {path.name} (SHA-256 differs);"
            " remove it to fetch it anew, or give data of your own as a folder of pairs"
        )
    return stack


def _is_original(stack: Stack, name: str, hashes: Mapping[str, str]) -> bool:
    return hashes.get(name) in (None, hashlib.sha256(stack.array.tobytes()).hexdigest())


def _by_hand(cache: Path) -> str:
    names = ", ".join(SHA256)
    return f"get {names} by hand and put them into {cache}, or into a folder named by AXOLEMMA_DATA"
