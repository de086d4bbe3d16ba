"""What became of each run, and by which versions: `trainlab list runs`."""

import json

from trainlab import terminal
from trainlab.verbs import parsed

_COLUMNS = ("folder", "status", "trainlab", "torch", "code", "time")


def list_runs(arguments: list[str]) -> int:
    """`trainlab list runs [FOLDERS] [--where …] [--json]`: a line for each run, oldest first."""
    from trainlab.verbs.tables import runs_below

    usage = "list runs [FOLDERS] [--where 'status==done'] [--json]"
    folders, options = parsed(arguments, usage, ("--where",), ("--json",))
    rows = [
        {"folder": str(run.folder), "status": run.status, "time": run.time[:19]} | run.versions
        for run in runs_below(folders, options).runs
    ]
    if "--json" in options:
        print(json.dumps(rows, indent=1))
        return 0
    from rich.table import Table

    shown = [name for name in _COLUMNS if any(row.get(name) for row in rows)]
    grid = Table(*shown, box=None, padding=(0, 2, 0, 0))
    for row in rows:
        grid.add_row(*(str(row.get(name, "–")).replace("T", " ") for name in shown))
    terminal.console().print(grid)
    return 0
