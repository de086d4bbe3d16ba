"""A frame on the terminal, and the next one a second later."""

import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trainlab.tables.recipes import form_of, with_interval
from trainlab.tables.statistics import interval
from trainlab.watch.folder import Folder
from trainlab.watch.frame import Best, Frame, Running, Trouble, gather, one_line

_EVERY = 1.0  # seconds between two frames
_LISTED = 3  # failures that are shown where running runs would fill the screen
_STYLES = {
    "done": "green", "diverged": "red", "failed": "red", "pruned": "blue", "running": "cyan",
    "paused": "blue", "stopped": "yellow", "interrupted": "yellow", "waiting": "dim",
}  # fmt: skip


def picture(frame: Frame, width: int, height: int | None) -> Group:
    """The frame for a terminal of this size; all of it where there is no `height`."""
    head: list[Any] = [Text(one_line(str(frame.study)), "bold", no_wrap=True, overflow="ellipsis")]
    for command in frame.commands[:2]:
        head.append(Text(one_line(command), "dim", no_wrap=True, overflow="ellipsis"))
    head += [_progress(frame), _counts(frame), _times(frame)]
    best = [_best_line(best) for best in frame.best[: 3 if height else None]]
    console = Console(width=width)
    lines = sum(len(console.render_lines(part)) for part in (*head, *best))
    room = None if height is None else height - lines
    rest = len(frame.running) + 2 if frame.running else 0  # with a heading and a line before it
    shown = len(frame.troubles)
    if room is not None:
        shown = min(shown, max(_LISTED, room - rest), max(0, room - min(rest, 3) - 1))
        room -= shown + 1 if shown else 0
    parts = [*head, *best]
    if frame.running:
        parts += [Text(), _running(frame.running, None if room is None else max(1, room - 2))]
    if shown:
        parts += [Text(), _troubles(frame.troubles[:shown], width)]
    return Group(*parts)


def _progress(frame: Frame) -> Table:
    grid = Table.grid(expand=True, padding=(0, 1, 0, 0))
    grid.add_column(ratio=1)
    grid.add_column(no_wrap=True)
    bar = ProgressBar(total=1.0, completed=frame.share)
    grid.add_row(bar, Text(f"{frame.ended}/{'?' if frame.total is None else frame.total} runs"))
    return grid


def _counts(frame: Frame) -> Text:
    parts = (Text(f"{count} {status}", _STYLES[status]) for status, count in frame.counts.items())
    return Text(" · ").join(parts)


def _times(frame: Frame) -> Text:
    told, style = f"elapsed {_duration(frame.elapsed)}, left {_duration(frame.left)}", ""
    after = "" if frame.elapsed is None else f" after {_duration(frame.elapsed)}"
    if frame.over and frame.ended >= (frame.total or sum(frame.counts.values())):
        told, style = f"finished{after}", "green"
    elif frame.over:
        told, style = f"ended{after}, unfinished; the same command continues", "yellow"
    return Text(told, style, no_wrap=True, overflow="ellipsis")


def _duration(seconds: float | None) -> str:
    """
    >>> _duration(3723.4), _duration(None)
    ('1:02:03', '–')
    """
    return "–" if seconds is None else str(timedelta(seconds=int(seconds)))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:{form_of(value)}}"


def _best_line(best: Best) -> Text:
    line = Text("best ", no_wrap=True, overflow="ellipsis")
    value = with_interval(*interval(best.values))
    return line.append(f"{best.metric} {value} (n = {len(best.values)})", "bold green").append(
        f"  {best.name}"
    )


def _running(running: Sequence[Running], room: int | None) -> Table:
    """As many as there is room for, the rest counted."""
    most = len(running) if room is None or len(running) <= room else max(0, room - 1)
    metrics = list(dict.fromkeys(run.metric for run in running))
    grid = Table.grid(expand=True, padding=(0, 1, 0, 0))
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for _ in range(3):
        grid.add_column(justify="right", no_wrap=True)
    heading = metrics[0] if len(metrics) == 1 else "latest"
    grid.add_row("running", "epoch", heading, "best", style="dim")
    for run in running[:most]:
        name = Text(run.name)
        if run.quiet is not None:
            name.append(f"  nothing heard for {_duration(run.quiet)}", "yellow")
        epoch = f"{run.epoch}/{run.epochs}"
        grid.add_row(name, epoch, _number(run.latest), _number(run.best))
    if most < len(running):
        grid.add_row(Text(f"and {len(running) - most} more", "dim"))
    return grid


def _troubles(troubles: Sequence[Trouble], width: int) -> Table:
    grid = Table.grid(expand=True, padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=width // 3)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for trouble in troubles:
        status = Text(trouble.status, _STYLES[trouble.status])
        grid.add_row(status, Text(trouble.name), Text(one_line(trouble.reason), "dim"))
    return grid


def watch(study: Path, console: Console, once: bool) -> None:
    """Show a study's sweep until it has ended; in a pipe, or if `once`, as it is now."""
    known: dict[str, Folder] = {}
    frame = gather(study, known)
    if once or not console.is_terminal or console.is_dumb_terminal:
        height = console.height - 2 if console.is_terminal else None
        console.print(picture(frame, console.width, height))
        return
    with Live(console=console, auto_refresh=False) as live:
        began = time.monotonic()
        while True:
            # Lines stay free for the prompt, or the first would scroll away behind the last frame.
            live.update(picture(frame, console.width, console.height - 2), refresh=True)
            if frame.over:
                return
            # Of a great many runs less often: whoever watches takes little from who trains.
            time.sleep(max(_EVERY, 10 * (time.monotonic() - began)))
            began = time.monotonic()
            frame = gather(study, known)
