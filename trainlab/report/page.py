"""The story as one HTML file: no network, no second file, light and dark."""

import base64
import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from trainlab.config import UserError
from trainlab.files import MB, Unreadable, opened, read_bytes, read_text, write_text
from trainlab.report import story
from trainlab.report.story import Grid, Part, Story
from trainlab.tables import compare, effects, recipes
from trainlab.tables.runs import read
from trainlab.terminal import escaped

_HERE = Path(__file__).parent
_RUNS = 2000  # rows of the table of all runs
_PICTURE = 8 * MB  # bytes of a search's picture


class Drawn(NamedTuple):
    svg: str
    caption: str


def write(folders: Sequence[Path], output: Path) -> Story:
    """Write the page of all runs below some folders; gives what it tells."""
    title = ", ".join(folder.resolve().name for folder in folders)
    told = story.told(read(folders), title)
    html = rendered(told, list(folders))
    write_text(output, html)
    return told


def rendered(told: Story, folders: Sequence[Path] = ()) -> str:
    """The page's text. Whatever comes from the runs is escaped by the template."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_readable,
    )
    environment.filters["sortable"] = sortable
    return environment.get_template("page.html").render(
        story=told,
        parts=[_part(part, number) for number, part in enumerate(told.parts)],
        runs=story.of_runs(told.runs[:_RUNS]),
        more=max(0, len(told.runs) - _RUNS),
        searches=_searches({*folders, *(run.folder.parent for run in told.runs)}),
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup((_HERE / "page.js").read_text(encoding="utf-8")),
    )


def _readable(shown: Any) -> Any:
    return shown if isinstance(shown, Markup) else escaped(str(shown), lines=True)


def _searches(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """What searches have left in studies: <name>.csv, a row per trial, and <name>.svg. A line that
    was cut off is left out."""
    found = []
    real = sorted({folder.resolve() for folder in folders})
    for path in (file for folder in real for file in sorted(folder.glob("*.csv"))):
        if path.name in ("runs.csv", "metrics.csv", "steps.csv"):
            continue
        try:
            with opened(path) as file:
                if not file.readline(1000).startswith(b"trial,state,"):
                    continue
            headings, *rows = csv.reader(read_text(path).splitlines(keepends=True))
        except (Unreadable, csv.Error):
            continue
        try:  # as an image, in which nothing runs: the file may be anyone's
            picture = base64.b64encode(read_bytes(path.with_suffix(".svg"), _PICTURE)).decode()
        except Unreadable:
            picture = ""
        whole = [row for row in rows if len(row) == len(headings)]
        found.append(
            {
                "name": f"{path.parent.name}/{path.stem}",
                "grid": Grid(headings, [[_short(text) for text in row] for row in whole]),
                "picture": picture and f"data:image/svg+xml;base64,{picture}",
            }
        )
    return found


def _short(text: str) -> str:
    """Numbers in five digits."""
    try:
        return text if len(text) < 8 else f"{float(text):.5g}"
    except ValueError:
        return text


def sortable(text: str) -> float | str:
    """What a cell is sorted by: its first number, else its text.

    >>> sortable("0.9770 ± 0.0060"), sortable("< 0.001"), sortable("adam")
    (0.977, 0.001, 'adam')
    """
    for word in text.split()[:2]:
        try:
            return float(word.rstrip("%").replace(",", ""))
        except ValueError:
            if word not in ("<", ">"):
                break
    return text


def _part(part: Part, number: int) -> dict[str, Any]:
    """What the template shows of one task's runs."""
    from trainlab.pictures import style

    verdict = part.verdict
    pictures = []
    for picture in part.pictures:
        try:
            with style.styled(style.GREY):
                svg = style.as_svg(picture.draw(), f"p{number}-{picture.name}-")
            pictures.append(Drawn(Markup(svg), picture.caption))
        except UserError as error:  # of a metrics.csv that is damaged, or another program's
            pictures.append(Drawn("", f"{picture.caption}: not drawn. {error}"))
    return {
        "metric": part.summary.metric,
        "recipes": story.of_recipes(part),
        "caption": recipes.caption(part.summary),
        "chances": story.of_contestants(verdict) if verdict else None,
        "compared": part.compared,
        "versus": story.of_versus(verdict) if verdict else None,
        "explained": compare.explained(verdict) if verdict else [],
        "effects": story.of_effects(part) if part.effects else None,
        "effects_caption": effects.caption(part.summary.metric),
        "pictures": pictures,
    }
