"""Whether trainlab can work here: the machine, the installation and the folder of the outputs."""

import json
from pathlib import Path

from trainlab.config import UserError
from trainlab.terminal import escaped
from trainlab.verbs import parsed


def doctor(arguments: list[str]) -> int:
    """`trainlab doctor [FOLDER] [--json]`: what is well, what is not, and what to do about it.

    The exit code is 1 where there is trouble; warnings alone give 0.
    """
    usage = "doctor [FOLDER] [--json]; FOLDER is where the outputs go"
    folders, options = parsed(arguments, usage, (), ("--json",))
    if len(folders) > 1:
        raise UserError(f"Usage: trainlab {usage}")
    from trainlab.doctor import LEVELS, examined

    levels, told = dict.fromkeys(LEVELS, 0), []
    for finding in examined(Path(folders[0] if folders else "outputs")):
        levels[finding.level] += 1
        if "--json" in options:
            told.append(finding._asdict())
        else:  # at once: what comes next may take a while, or end the process
            print(f"{finding.level:8} {finding.check:10} {escaped(finding.text)}", flush=True)
    worst = max((level for level in LEVELS if levels[level]), key=LEVELS.index)
    if told:
        print(json.dumps({"level": worst, "findings": told}, indent=1))
    elif worst != LEVELS[0]:
        print(f"\nlines of trouble: {levels['trouble']}, warnings: {levels['warning']}")
    return int(worst == LEVELS[-1])
