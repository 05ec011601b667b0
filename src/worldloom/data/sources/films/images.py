"""Folders of pictures, one a frame."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from worldloom.data.episode import DataError, Episode
from worldloom.data.sources.base import ImportConfig, Item, Problem
from worldloom.data.sources.cutting import episodes
from worldloom.data.sources.films.labels import Found
from worldloom.data.sources.films.recordings import Recordings
from worldloom.data.sources.films.video import holds_videos
from worldloom.data.sources.names import files_under, natural, shown
from worldloom.data.sources.pictures import LARGEST_SIDE, as_uint8

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})
"""Names of files that are pictures, whatever their case."""
KINDS = ("PNG", "JPEG", "BMP", "WEBP")
"""What a picture is tried as. Pillow knows more, of which some start other programs."""
RATE = 10.0
"""Frames a second that are assumed where nobody says."""

_ORIENTATION = 0x0112  # EXIF's tag, which cameras write instead of turning the picture


class ImagesSource(Recordings):
    """Pictures (png, jpg, bmp, webp) in natural order of their names: those of one folder are one recording.

    It is the folder itself if it holds pictures, else every folder in it, at any depth, that does. Its table of
    actions is ``actions.csv`` (or .tsv, .parquet, .npz, .npy) inside its folder, or one called like the folder, inside
    or beside it; or one ``actions.csv`` for all, as with videos. Nothing says how fast the pictures were taken:
    ``config.fps``, or 10. Palettes, greys and 16 bits become RGB of 8 bits, alpha is left out, turned photos are set
    upright.
    """

    format: ClassVar[str] = "images"

    def __init__(self, path: Path, config: ImportConfig):
        super().__init__(path, config)
        self._files: dict[str, list[Path]] = {}
        found, every, lacking = [], [], []
        folders = [
            (at, [at / n for n in names if Path(n).suffix.lower() in SUFFIXES]) for at, names in files_under(path)
        ]
        folders = sorted((f for f in folders if f[1]), key=lambda f: natural(f[0].as_posix()))
        if len(folders) > 1 and folders[0][0] == path:
            self.notes.append(
                f"{path} holds pictures itself: those of the {len(folders) - 1} folders in it are left out."
            )
            folders = folders[:1]
        for at, pictures in folders:
            name = shown(at.relative_to(path).as_posix() if at != path else path.resolve().name)
            every.append(name)
            sizes: dict[tuple[int, int], str] = {}
            try:
                for picture in pictures:
                    sizes.setdefault(_size(picture, f"{name}/{shown(picture.name)}"), f"{name}/{shown(picture.name)}")
            except DataError as error:
                self.problems.append(Problem(name, str(error), "corrupt"))
                continue
            self._files[name] = pictures
            gaps = _skipped([p.stem for p in pictures])
            if gaps:
                lacking.append(f"{name} ({gaps})")
            parent, called = (at.parent, at.name) if at != path else (path.resolve().parent, path.resolve().name)
            calls = [(at, "actions"), (at, called), (parent, called)]
            rate = config.fps or RATE
            found.append(Found(name, at, sizes, rate, len(pictures), True, calls))
        self._settle(found, every, "folder of pictures", "folders of pictures")
        if lacking:
            more = f" and {len(lacking) - 4} more" if len(lacking) > 4 else ""
            self.notes.append(f"Are frames missing? Numbers skip in {', '.join(lacking[:4])}{more}.")
        if config.fps is None:
            self.notes.insert(1, f"Nothing says how fast the pictures were taken: {RATE:g} a second assumed (--fps).")

    @classmethod
    def sniff(cls, path: Path) -> bool:
        """A folder with pictures at any depth, and no video."""
        if not path.is_dir():
            return False
        some = any(Path(name).suffix.lower() in SUFFIXES for _, names in files_under(path) for name in names)
        return some and not holds_videos(path)

    def read(self, item: Item) -> Iterator[Episode]:
        """See :class:`~worldloom.data.sources.base.Source`."""
        yield from episodes(_InOrder(self._files[item.name]), self._show, self._cutter(item), item.frames)

    def _show(self, file: Path) -> np.ndarray:
        where = f"{shown(file.parent.name)}/{shown(file.name)}"
        rgb = _load(file, where)
        fit = self._fits.get((rgb.shape[0], rgb.shape[1]))
        if fit is None:
            raise DataError(f"{where}: has another size than when the import began; begin anew.")
        return fit.pictures(rgb[None])[0]


class _InOrder:
    """Files with their numbers."""

    def __init__(self, files: list[Path]):
        self.files, self.count = files, len(files)

    def __iter__(self) -> Iterator[tuple[int, Path]]:
        return iter(enumerate(self.files))

    def check(self) -> None:
        """They carry no times."""


def _skipped(stems: list[str]) -> str:
    """Where the numbers at the end of names skip more than they usually do, in words; empty where they do not."""
    found = [re.search(r"(\d{1,18})$", stem) for stem in stems]
    numbers = np.array([int(m[1]) for m in found if m], np.int64)
    if len(numbers) < len(stems) or len(stems) < 3:
        return ""
    steps = np.diff(numbers)
    wide = np.flatnonzero(steps > 1.5 * np.median(steps))
    if not len(wide):
        return ""
    return f"{numbers[wide[0]]} to {numbers[wide[0] + 1]}" + (f", {len(wide)} times" if len(wide) > 1 else "")


def _size(file: Path, where: str) -> tuple[int, int]:
    """(height, width) as shown, from the header alone."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # Pillow only warns of a bomb of middling size
        with _opened(file, where) as picture:
            width, height = picture.size
            if not (0 < width <= LARGEST_SIDE and 0 < height <= LARGEST_SIDE):
                raise DataError(
                    f"{where}: claims {width}×{height} pixels; from 1 to {LARGEST_SIDE} a side can be read."
                )
            return (width, height) if _orientation(picture) >= 5 else (height, width)


def _load(file: Path, where: str) -> np.ndarray:
    """(H, W, 3) uint8, upright."""
    from PIL import ImageOps

    with _opened(file, where) as picture:
        try:
            picture.load()
            upright = ImageOps.exif_transpose(picture) if _orientation(picture) > 1 else picture
        except (OSError, ValueError, SyntaxError, ArithmeticError, IndexError, MemoryError) as error:
            raise DataError(f"{where}: is damaged or cut off ({error}). Copy it again.") from error
        if upright.mode.startswith("I"):  # grey of 16 bits, which Pillow may hold in 32
            grey = np.asarray(upright)
            if grey.dtype != np.uint16:
                grey = np.clip(grey, 0, 65535).astype(np.uint16)
            return np.repeat(as_uint8(grey[None], where)[0][0], 3, -1)
        rgb = upright.convert("RGBA").convert("RGB") if "transparency" in upright.info else upright.convert("RGB")
        return np.array(rgb)  # of its own, so that it may be written to


def _orientation(picture: Any) -> int:
    """How a JPEG is turned (others hardly ever say, and to ask them means to decode them)."""
    found = picture.getexif().get(_ORIENTATION, 1) if picture.format == "JPEG" else 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _opened(file: Path, where: str) -> Any:
    from PIL import Image

    try:
        if file.stat().st_size == 0:
            raise DataError(f"{where}: is empty (0 bytes): copy it again.")
        return Image.open(file, formats=KINDS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{where}: claims so many pixels that it must be damaged or hostile.") from error
    except (OSError, ValueError, SyntaxError, ArithmeticError, IndexError, MemoryError, Warning) as error:
        raise DataError(f"{where}: can't be read as a picture; is it whole, and is its name right?") from error
