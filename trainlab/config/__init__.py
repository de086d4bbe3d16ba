"""From what the user typed to a checked config, and from a config to the objects it names.

options      what there is to choose from: groups, options, settings
schema       what values a setting may take
overrides    how they are typed
composing    from overrides to a checked config, or the many of a sweep
identity     the run it is, and the runs it may be stacked with
sources      the user's own code that it names
components   the objects it names
trust        what each group may build
strangers    what a study from another folder may not say
errors       what the user can mend

A config is a plain nested dict: Hydra's composition, resolved, with two additions: `choices` (the
option of each group, as typed) and `overrides` (the command-line overrides it was made from).
"""

from trainlab.config.components import (
    build,
    build_each,
    column,
    find,
    needed,
    setting,
    widest,
)
from trainlab.config.composing import check, compose, compose_jobs, explain, plain, restored
from trainlab.config.errors import UserError, nearest
from trainlab.config.identity import NOT_IDENTITY, Config, flat, run_id, stack_key
from trainlab.config.options import (
    CONF,
    check_own,
    groups,
    options,
    search_path,
    settings_of,
    shared,
    top_settings,
)
from trainlab.config.overrides import override, typed

__all__ = [
    "CONF", "NOT_IDENTITY", "Config", "UserError", "build",
    "build_each", "check", "check_own", "column", "compose", "compose_jobs", "explain", "find",
    "flat", "groups", "nearest", "needed", "options", "override", "plain", "restored", "run_id",
    "search_path", "setting", "settings_of", "shared", "stack_key", "top_settings", "typed",
    "widest",
]  # fmt: skip
