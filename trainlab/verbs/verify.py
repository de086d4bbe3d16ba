"""Whether a run comes out again: `trainlab verify`."""

import json
from pathlib import Path

from trainlab import terminal
from trainlab.config import UserError
from trainlab.verbs import with_overrides

_SHOWN = 3  # differences of each file


def verify(arguments: list[str]) -> int:
    """`trainlab verify RUN [--segments 3] [--epochs N] [--json] [overrides]`: train a run anew, and
    compare every bit. Exit code 1 where any differs."""
    usage = "verify RUN [--segments 3] [--epochs N] [--json] [overrides]; RUN is a run's folder"
    named = ("--segments", "--epochs")
    folders, overrides, options = with_overrides(arguments, usage, named, ("--json",))
    if len(folders) != 1:
        raise UserError(f"Usage: trainlab {usage}")
    numbers = {name: _count(name, options[name]) for name in named if name in options}
    from trainlab.verify import verified

    found = verified(
        Path(folders[0]), numbers.get("--segments", 3), numbers.get("--epochs"), overrides,
        lambda text: terminal.say(f"training anew {text}"),
    )  # fmt: skip
    if "--json" in options:
        compared = [one._asdict() for one in found.compared]
        told = {"equal": found.equal} | found._asdict() | {"compared": compared}
        print(json.dumps(told, indent=1))
        return int(not found.equal)
    for one in found.compared:
        how = "differs" if one.differences else "equal to the last bit"
        print(f"{one.file}: {how}, {one.numbers:,} numbers compared")
        for text in one.differences[:_SHOWN]:
            print(f"    {terminal.escaped(text)}")
        if len(one.differences) > _SHOWN:
            print(f"    and {len(one.differences) - _SHOWN:,} more places")
    verdict = "comes out again to the last bit" if found.equal else "does not come out again"
    print(f"The run {verdict}: {found.epochs} epochs, trained in {found.stretches} stretches.")
    for reason in found.reasons:
        print(f"  may be why: {terminal.escaped(reason)}")
    return int(not found.equal)


def _count(name: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{name} {text}: give a whole number >= 1.")
    return int(text)
