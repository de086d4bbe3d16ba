"""How pictures look, and how they become files."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from trainlab.config import UserError, needed
from trainlab.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GREY = "#808080"  # readable on white and on black
_INK = "#222222"  # on paper
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")
DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 3)))
MARKERS = "osD^vPX"
MAP = "viridis"
ENDINGS = (".png", ".svg", ".pdf")
_DPI = 160


def check(path: Path) -> None:
    """Raise UserError, before anything is drawn, where a picture cannot be written to."""
    needed("matplotlib", "plot", "A picture")
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"{path}: a picture ends in {', '.join(ENDINGS)}")
    if not path.parent.is_dir():
        raise UserError(f"There is no folder {path.parent} to write {path.name} to.")


@contextmanager
def styled(ink: str) -> Iterator[None]:
    """What is drawn herein has axes and texts in this colour, and no frame."""
    import matplotlib

    colours = dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), ink
    )
    rest = {
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "font.size": 9,
        "legend.frameon": False,
        # Text as text, and nothing in the file that changes from one drawing to the next.
        "svg.fonttype": "none",
        "svg.hashsalt": "trainlab",
    }
    with matplotlib.rc_context(colours | rest):
        yield


def ink(path: Path) -> str:
    """Of a file: an svg has no background of its own, and stands on white or on black."""
    return GREY if path.suffix.lower() == ".svg" else _INK


def save(figure: "Figure", path: Path) -> None:
    """Write a figure that was drawn in `styled(ink(path))`."""
    kind = path.suffix.lower().removeprefix(".")
    svg = kind == "svg"
    how = {"transparent": True, "metadata": {"Date": None}} if svg else {"facecolor": "white"}
    write_atomically(path, lambda beside: figure.savefig(beside, format=kind, dpi=_DPI, **how))


def as_svg(figure: "Figure", prefix: str = "") -> str:
    """The <svg> element for a page: what was drawn in `styled(GREY)` takes the page's colour, and
    every id begins with the prefix, as no two elements of a page may share one."""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", svg[svg.index("<svg") :])
    return svg.replace(GREY, "currentColor")


def line(number: int) -> dict:
    """Colour, dashes and marker of the number-th line."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": DASHES[number % len(DASHES)],
    }


def logarithmic(values: list[float]) -> bool:
    """Whether positive numbers differ so much that a logarithmic axis shows more."""
    return min(values, default=0) > 0 and max(values) / min(values) > 20
