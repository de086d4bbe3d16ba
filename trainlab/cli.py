"""The command line: a few verbs; `train` is Hydra's.

Neither torch nor pandas is imported until a verb needs it, so that help and completion answer at
once.
"""

import gc
import importlib
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from trainlab import __version__, terminal

if TYPE_CHECKING:
    from trainlab.run import Outcome

HELP = """\
trainlab: which recipe, and why?

  trainlab train [overrides] [-m]         train the composed recipe; -m sweeps over a,b,c
  trainlab list [group]                   groups, options, their settings and defaults
  trainlab list runs [FOLDERS] [--json]   each run: how it ended, by which versions
  trainlab summary [overrides]            the model layer by layer
  trainlab lr-find [overrides]            the learning-rate range test
  trainlab eval RUN [--data …]            a run's best weights, on its data or on others
  trainlab predict RUN --input FILE --output FILE      csv or npz, with the run's preprocessing
  trainlab export RUN --format torch-export|onnx|safetensors
  trainlab table [FOLDERS] [--by …] [--metric …] [--where …] [--csv|--json|…]
                                          recipes, best first: mean ± 95 % interval, rank, n
  trainlab compare A B … | FOLDER         is one better? differences, p-values, seeds needed
  trainlab effects [FOLDERS]              which choice of a sweep matters
  trainlab report [FOLDERS] [--open]      all of it as one HTML page; --study NAME: a write-up
  trainlab plot [FOLDERS] --kind curves|bars|heatmap|scatter|parallel [-o FILE.png|svg|pdf]
  trainlab watch [FOLDER] [--once]        a running sweep, from another terminal
  trainlab verify RUN [--segments 3]      trained anew, does it come out the same to the last bit?
  trainlab doctor [FOLDER] [--json]       what may keep trainlab from working here

  trainlab train optimizer=adam act=gelu
  trainlab train -m optimizer=sgd,adam act=relu,gelu 'seed=range(5)'
  trainlab train experiment=first_steps

Options: --version, --help, --debug (tracebacks); of train: -q (no progress), --dry-run (what would
be trained), --fail-fast (a sweep ends at its first failure).
`trainlab train --help` lists the groups; there Hydra's flags work too: --cfg job, --info, …
Tab completion: eval "$(trainlab -sc install=bash)"; zsh and fish: see the README.
"""

# Where each verb is, below trainlab: a function of its arguments that gives the exit code.
VERBS = {
    "train": "cli.train",
    "list": "verbs.catalogue.list_options",
    "summary": "verbs.catalogue.summary",
    "lr-find": "verbs.catalogue.find_rate",
    "eval": "verbs.finished.evaluate",
    "predict": "verbs.finished.predict",
    "export": "verbs.finished.export",
    "table": "verbs.tables.table",
    "compare": "verbs.tables.compare",
    "effects": "verbs.tables.effects",
    "plot": "verbs.tables.plot",
    "report": "verbs.tables.report",
    "watch": "verbs.tables.watch",
    "verify": "verbs.verify.verify",
    "doctor": "verbs.doctor.doctor",
}

# Exit codes scripts rely on.
FAILED, BAD_INPUT, DIVERGED, INTERRUPTED = 1, 2, 3, 130
# Of a single run, by how it ended; FAILED for all else.
_CODES = {
    "done": 0, "paused": 0, "diverged": DIVERGED, "stopped": INTERRUPTED, "busy": BAD_INPUT,
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    with terminal.ready() as output:
        code = _shared(arguments)
        output.flush()
        if (lost := output.lost) and code == 0:
            terminal.say(f"trainlab: what it prints cannot be written: {lost.strerror}.")
            # Whatever became of its last line, a run that was trained is there.
            return 0 if arguments[:1] == ["train"] else FAILED
        return code


def _shared(arguments: list[str]) -> int:
    """The command, or torchrun's share of it."""
    several = "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) > 1
    if several and "train" in arguments:
        from trainlab import parallel

        return parallel.together(partial(_main, arguments))
    return _main(arguments)


def _main(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if verb in ("--help", "-h", "help") or (verb != "train" and {"--help", "-h"} & set(rest)):
        print(HELP, end="")
        return 0
    if verb == "--version":
        print(f"trainlab {__version__}")
        return 0
    try:
        from trainlab.config import UserError, check_own, explain, nearest

        if {"-sc", "--shell-completion", "--shell_completion"} & set(arguments):
            return _complete(arguments)
        if verb not in VERBS:
            raise UserError(
                f"There is no `trainlab {verb}`.{nearest(verb, VERBS)} Verbs: {', '.join(VERBS)}."
            )
        if verb != "doctor":  # which tells of it, and of the rest
            check_own()
        module, _, name = VERBS[verb].rpartition(".")
        return getattr(importlib.import_module(f"trainlab.{module}"), name)(rest)
    except KeyboardInterrupt:
        terminal.say("interrupted; the same command continues")
        return INTERRUPTED
    except ImportError as error:  # not of a component's own module: that is a UserError
        if debug:
            raise
        terminal.say(
            f"trainlab: {error}. A package that trainlab needs is missing or damaged: `trainlab "
            "doctor` looks at each. Installing trainlab anew brings what is missing."
        )
        return FAILED
    except Exception as error:
        if debug:
            raise
        from hydra.errors import HydraException

        from trainlab.files import in_trouble
        from trainlab.memory import explained as too_much
        from trainlab.memory import out_of_memory

        code = BAD_INPUT
        if isinstance(error, UserError):
            text, code = str(error), error.code
        elif isinstance(error, HydraException):
            text = explain(error)
        elif out_of_memory(error):
            text, code = too_much(error), FAILED
        elif isinstance(error, OSError):
            text = f"{error.strerror or error}: {error.filename}" if error.filename else str(error)
            code = FAILED if in_trouble(error) else BAD_INPUT
        else:
            terminal.say(f"trainlab: {type(error).__name__}: {error} (--debug shows where)")
            return FAILED
        terminal.say(f"trainlab: {text}")
        return code


# ---------------------------------------------------------------- train


def train(arguments: list[str]) -> int:
    """`trainlab train`: Hydra composes, `trainlab.run` trains."""
    outcomes: list[Outcome] = []
    failures: list[Exception] = []
    sweep, session, swept, found, parent = False, None, None, None, os.getpid()

    def job(task: Any) -> Any:
        """Hydra's task: one config, or all of a sweep from our launcher, and what it is worth.

        Errors are kept from Hydra, which would announce them in its own words. The last task is
        what the sweeper ends with: what a sweep's jobs are worth, or what a search found.
        """
        nonlocal sweep, session, swept, found
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        from trainlab import executors
        from trainlab.config import UserError
        from trainlab.search.score import RunFailed, Swept, failed, score

        if isinstance(task, Swept):
            swept = task
            return None
        if isinstance(task, tuple):
            found = task
            return None
        several = isinstance(task, list)
        sweep = several or HydraConfig.get().mode == RunMode.MULTIRUN
        try:
            configs = task if several else [_composed(task)]
            if len(configs) > 1 and configs[0]["workers"] not in (1, "auto"):
                executors.context()  # begins to import torch beside us
            with _uncollected():
                from trainlab import parallel
                from trainlab.run import Session

            if sweep and parallel.size() > 1:
                raise UserError(
                    "torchrun trains one large run; a sweep trains several at once by workers=… "
                    "instead."
                )
            session = session or Session()
            # Hydra's other launchers hand over a sweep run by run.
            results = session.train(configs, whole=several or not sweep)
        except Exception as error:
            if os.getpid() != parent:  # another launcher's process: this is its only way to tell us
                raise
            failures.append(error)
            if not several:
                return None
            return [failed(error)] * len(task)
        if not configs[0]["dry_run"]:
            outcomes.extend(outcome for outcome in results if outcome)
        if os.getpid() != parent and results[0] and results[0].status == "failed":
            raise RunFailed(results[0].reason, str(results[0].run.path))
        values = [score(outcome) for outcome in results]
        return values if several else values[0]

    arguments = [_SHORT.get(argument, argument) for argument in arguments]
    _refuse_null_groups(arguments)
    searches = any(a.startswith(("search=", "hydra/sweeper=")) for a in arguments)
    if searches and not {"search=none", "-m", "--multirun", "--cfg", "-c", "--info"} & {*arguments}:
        arguments.append("-m")  # or what is wrong with the rest is told as a sweep that lacks it
    try:
        _hydra(_flags_last(arguments), job)
    finally:
        if session:
            session.close()
    if swept and not outcomes and not failures:  # a launcher of other processes
        sweep, outcomes, failures = True, swept.outcomes(), swept.failures()
    if failures and not outcomes:
        raise failures[0]
    if found and (outcomes or found.trials):
        return _report_search(outcomes, found, failures)
    if session and session.refused:
        return FAILED if sweep else BAD_INPUT
    if not outcomes:  # --cfg, --info, --help, or another sweeper's by another launcher
        return 0
    return _report(outcomes, sweep, failures)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Importing torch makes half a million objects and hardly any garbage: to look for cycles among
    them takes a tenth of a second, now and each time again as a run trains."""
    new = "torch" not in sys.modules
    gc.disable()
    try:
        yield
    finally:
        if new:
            gc.freeze()
        gc.enable()


_SHORT = {"-q": "quiet=true", "--dry-run": "dry_run=true", "--fail-fast": "fail_fast=true"}


def _refuse_null_groups(arguments: Sequence[str]) -> None:
    from trainlab.config import UserError, groups, options

    for argument in arguments:
        group, is_override, option = argument.partition("=")
        if is_override and option in ("", "null") and group in set(groups()) - {"experiment"}:
            names = ", ".join(options(group))
            raise UserError(f"{argument}: choose an option of {group}: {names}.")


def _composed(task: Any) -> Any:
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import open_dict

    from trainlab.config import plain

    with open_dict(task):
        task["hydra"] = HydraConfig.get()
    return plain(task)


def _hydra(arguments: list[str], job: Callable[[Any], Any]) -> None:
    """Hand the command line to Hydra's main; its errors come back as exceptions."""
    import hydra

    from trainlab.config import CONF, UserError, strangers

    flags = [argument.partition("=")[0] for argument in arguments]
    if any(len(flag) > 2 and "--experimental-rerun".startswith(flag) for flag in flags):
        raise UserError(
            "--experimental-rerun reads a pickle, which could run any program, and trainlab writes "
            "none. The same command as before continues a run, or shows its result."
        )
    _check_flags(arguments)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors through to `main`, which explains them
    before, sys.argv = sys.argv, [sys.argv[0], *arguments]

    @wraps(job)
    def begun(task: Any) -> Any:
        sys.argv = before  # Hydra has read its own; runs note the command as it was typed
        return job(task)

    try:
        with strangers.guarded():
            hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(begun)()
    except UserError:
        raise
    except ValueError as error:
        *_, last = traceback.extract_tb(error.__traceback__)
        if not {"hydra", "omegaconf"} & set(Path(last.filename).parts):
            raise
        raise UserError(str(error)) from error
    finally:
        sys.argv = before


def _check_flags(arguments: list[str]) -> None:
    """Raise UserError where Hydra's parser would print its usage."""
    from hydra._internal.utils import get_args_parser

    from trainlab.config import UserError

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{message}. `trainlab train --help` lists what it takes.")

    parser = get_args_parser()
    parser.error = refuse
    parser.parse_args(arguments)


_WITH_VALUE = {
    "--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn",
    "--config-dir", "-cd", "--experimental-rerun",
}  # fmt: skip
_INFO = {"all", "config", "defaults", "defaults-tree", "plugins", "searchpath"}


def _flags_last(arguments: Sequence[str]) -> list[str]:
    """Overrides first, then Hydra's flags with their values: Hydra refuses a flag between two
    overrides.

    >>> _flags_last(["a=1", "-m", "b=2", "--cfg", "job"])
    ['a=1', 'b=2', '-m', '--cfg', 'job']
    """
    overrides, flags, rest = [], [], list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("-"):
            overrides.append(argument)
            continue
        flags.append(argument)
        wants_value = argument in _WITH_VALUE or (
            argument in ("--info", "-i") and rest and rest[0] in _INFO
        )
        if wants_value and rest:
            flags.append(rest.pop(0))
    return overrides + flags


def _report(outcomes: Sequence["Outcome"], sweep: bool, failures: Sequence[Exception]) -> int:
    """Result table and failures to stderr, the folder as the last line of stdout; the exit code."""
    console = terminal.console(error=True)
    first = outcomes[0].run
    quiet = first.config["quiet"]
    if not sweep:
        if not quiet and outcomes[0].status == "done":
            _show_result(console, first.result())
        if outcomes[0].reason:
            console.print(f"{outcomes[0].status}: {outcomes[0].reason}", soft_wrap=True)
        print(first.path)
        return _CODES.get(outcomes[0].status, FAILED)
    if not quiet:
        _show_summaries(console, first.path.parent, {outcome.run.id for outcome in outcomes})
    return _ended(outcomes, ("failed", "diverged", "busy"), first.path.parent, failures)


def _show_summaries(console: Any, study: Path, wanted: set[str]) -> None:
    from trainlab.tables.recipes import shown, summaries
    from trainlab.tables.runs import find_runs, several_versions

    entries = [entry for entry in find_runs(study).runs if entry.result["run_id"] in wanted]
    if warning := several_versions(entries):
        console.print(f"warning: {warning}", markup=False, soft_wrap=True)
    for summary in summaries(entries):
        console.print(shown(summary))


def _report_search(outcomes: Sequence["Outcome"], found: Any, failures: Sequence[Exception]) -> int:
    """What a search found, and failures, to stderr; the rest as of any sweep."""
    from trainlab.search.report import show

    show(found, terminal.console(error=True, quiet=found.quiet))
    last = {outcome.run.id: outcome for outcome in outcomes}  # a run has one at each rung
    code = _ended(list(last.values()), ("failed",), found.folder, failures)
    return code or (FAILED if found.count("failed") else 0)


def _ended(
    outcomes: Sequence["Outcome"], told: Sequence[str], folder: Any, failures: Sequence[Exception]
) -> int:
    """The runs that ended so to stderr, the folder to stdout; the exit code."""
    from trainlab.progress import count

    console = terminal.console(error=True)
    for outcome in outcomes:
        if outcome.status in told:
            typed = shlex.join(t for t in outcome.run.config["overrides"] if t != "quiet=True")
            console.print(
                f"{outcome.status} {outcome.run.id} ({typed}): {outcome.reason}", soft_wrap=True
            )
    for text in dict.fromkeys(map(str, failures)):
        console.print(f"failed: {text}", soft_wrap=True)
    print(folder)
    statuses = {outcome.status for outcome in outcomes}
    stopped = {outcome.reason for outcome in outcomes if outcome.status == "stopped"}
    if None in stopped:
        console.print("interrupted; the same command continues")
        return INTERRUPTED
    for reason in stopped:
        left = [outcome for outcome in outcomes if outcome.reason == reason]
        console.print(f"{count(left)} left: {reason}", soft_wrap=True)
    return FAILED if failures or stopped or statuses & {"failed", "busy"} else 0


def _show_result(console: Any, result: dict[str, Any]) -> None:
    from trainlab.verbs.finished import metrics_table

    names = [n.removeprefix("test_") for n in result if n.startswith("test_")]
    splits = ("train", "val", "test")
    console.print(metrics_table({s: {n: result.get(f"{s}_{n}") for n in names} for s in splits}))
    console.print(
        f"weights of epoch {result['best_epoch']} of {result['epochs']}; "
        f"{result['parameters']:,} parameters, {result['steps']:,} steps, {result['seconds']:.1f} s"
    )


# ---------------------------------------------------------------- completion


def _complete(arguments: list[str]) -> int:
    """`trainlab -sc …`: Hydra completes `train` and `summary`, we complete the rest."""
    line = os.environ.get("COMP_LINE", "")
    words = line.split()
    if any(a.startswith("query=") for a in arguments) and line:
        position = len(words) if line.endswith(" ") else len(words) - 1
        word = "" if line.endswith(" ") else words[-1]
        if position <= 1:
            known = (*VERBS, "--help", "--version")
            print(*(verb for verb in known if verb.startswith(word)), sep="\n")
            return 0
        if words[1] == "list":
            from trainlab.config import groups

            print(*(group for group in groups() if group.startswith(word)), sep="\n")
            return 0
        if words[1] not in ("train", "summary", "lr-find"):
            return 0
        os.environ["COMP_LINE"] = " ".join(
            [words[0], *_flags_last(words[2:])]
        ) + " " * line.endswith(" ")
    _hydra(arguments, lambda config: None)
    return 0
