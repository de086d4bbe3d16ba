"""The verbs besides `train`: each takes its arguments and gives the exit code.

catalogue   list, summary, lr-find
runs        list runs
finished    eval, predict, export
tables      table, compare, effects, plot, report, watch
doctor      doctor

Neither torch nor pandas is imported until a verb needs it.
"""

from collections.abc import Sequence
from pathlib import Path

from trainlab.config import UserError, nearest


def parsed(
    arguments: Sequence[str], usage: str, named: Sequence[str] = (), flags: Sequence[str] = ()
) -> tuple[list[str], dict[str, str]]:
    """Positional arguments, and `--name value` or `--flag`. Several --where are joined;
    -o is short for --output; behind `--` nothing is an option.

    Raises UserError with the usage where another option is typed, or one has no value.
    """
    plain: list[str] = []
    options: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":  # behind it, names may begin with a dash
            return [*plain, *rest], options
        name, is_joined, value = argument.partition("=")
        name = "--output" if name == "-o" else name
        if name in flags and not is_joined:
            options[name] = ""
        elif name in named and (is_joined or rest):
            value = value if is_joined else rest.pop(0)
            if name in options and name != "--where":
                raise UserError(f"{name} is given twice. Usage: trainlab {usage}")
            options[name] = f"{options[name]} and {value}" if name in options else value
        elif argument.startswith("-"):
            why = "needs a value" if name in named else "is no option here"
            raise UserError(
                f"{name} {why}.{nearest(name, [*named, *flags])} Usage: trainlab {usage}"
            )
        else:
            plain.append(argument)
    return plain, options


def with_overrides(
    arguments: Sequence[str], usage: str, named: Sequence[str] = (), flags: Sequence[str] = ()
) -> tuple[list[str], list[str], dict[str, str]]:
    """The same; of the positional arguments, those with a = are overrides, unless there is such a
    folder."""
    plain, options = parsed(arguments, usage, named, flags)
    overrides = [text for text in plain if "=" in text and not Path(text).is_dir()]
    return [text for text in plain if text not in overrides], overrides, options
