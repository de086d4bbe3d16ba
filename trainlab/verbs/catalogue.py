"""What there is to choose from, and what a recipe amounts to before it is trained."""

from typing import Any

from trainlab.config import UserError, nearest
from trainlab.terminal import console as terminal
from trainlab.verbs.runs import list_runs


def list_options(arguments: list[str]) -> int:
    """`trainlab list [group]`: groups, options with their description, settings and defaults; and
    `trainlab list runs`."""
    if arguments[:1] == ["runs"]:
        return list_runs(arguments[1:])
    from rich.table import Table

    from trainlab.config import groups, options, schema, top_settings

    known = groups()
    if any(group not in known for group in arguments):
        wrong = next(group for group in arguments if group not in known)
        raise UserError(
            f"There is no group {wrong}.{nearest(wrong, known)} Groups: {', '.join(known)}."
        )
    console = terminal()
    if not arguments:
        grid = Table(
            title="settings of every run", title_justify="left", box=None, padding=(0, 2, 0, 0)
        )
        for heading in ("key", "default", "meaning"):
            grid.add_column(heading, overflow="fold")
        for key, setting in top_settings().items():
            grid.add_row(key, _default(setting.default), setting.meaning)
        console.print(grid)
    for group in arguments or known:
        grid = Table(title=f"\n{group}=", title_justify="left", box=None, padding=(0, 2, 0, 0))
        for heading in ("option", "what it is", "settings"):
            grid.add_column(heading, overflow="fold", no_wrap=heading == "option")
        for option, file in options(group).items():
            description, settings = schema.read(file)
            if group == "experiment":
                settings = {}
            listed = "  ".join(f"{key}={_default(s.default)}" for key, s in settings.items())
            grid.add_row(option, description, listed)
        console.print(grid)
        if arguments:
            _list_settings(console, group)
    return 0


def _list_settings(console: Any, group: str) -> None:
    from rich.table import Table

    from trainlab.config import options, settings_of, shared

    grid = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("setting", "may be", "meaning"):
        grid.add_column(heading, overflow="fold")
    seen = shared(group)
    for option in options(group):
        seen |= {k: s for k, s in settings_of(group, option).items() if k not in seen}
    for key, setting in seen.items():
        grid.add_row(key, setting.allowed, setting.meaning)
    if seen:
        console.print(grid)


def _default(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value).replace(" ", "")


def summary(arguments: list[str]) -> int:
    """`trainlab summary [overrides]`: the model layer by layer."""
    from trainlab.config import compose

    if any(argument.startswith("-") for argument in arguments):
        raise UserError("Usage: trainlab summary [overrides]")
    config = compose(arguments)
    from trainlab.summary import show

    show(config)
    return 0


def find_rate(arguments: list[str]) -> int:
    """`trainlab lr-find [overrides]`: the curve to stderr, the override to try to stdout."""
    if any(argument.startswith("-") for argument in arguments):
        raise UserError("Usage: trainlab lr-find [overrides]")
    from trainlab import lr_find

    curve, outcome = lr_find.find(arguments)
    console = terminal(error=True)
    lr_find.show(curve, console)
    console.print(f"every step: {outcome.run.path / 'steps.csv'}", soft_wrap=True)
    print(f"optimizer.lr={curve.suggested:.2g}")
    return 0
