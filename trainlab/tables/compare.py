"""Two recipes or more: is there a difference, how large is it, and how sure can one be?"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from trainlab.config import UserError
from trainlab.metrics import higher_is_better
from trainlab.tables import statistics
from trainlab.tables.recipes import by_seed, form_of, metric_of, summaries, with_interval
from trainlab.tables.runs import Entry, Found, cell, read, varied
from trainlab.tables.where import matching

if TYPE_CHECKING:
    from rich.console import Console

_FEW = 5  # pairs below which a difference in standard deviations says nearly nothing


class Contestant(NamedTuple):
    """A recipe: the runs that a filter or a folder names."""

    name: str
    runs: list[Entry]


class Versus(NamedTuple):
    """The best recipe against another."""

    other: str
    comparison: statistics.Comparison
    p: float  # corrected by Holm for the number of comparisons
    enough: bool  # whether so few numbers can tell anything
    able: int  # seeds of each that can
    needed: int | None  # seeds of each that find such a difference; None where 1,000 would not do
    better: bool  # whether the difference is in favour of the best

    @property
    def apart(self) -> bool:
        return self.enough and self.p <= statistics.ALPHA

    @property
    def verdict(self) -> str:
        """In words, and what would tell more."""
        n = min(self.comparison.n)
        if self.apart:
            return "better" if self.better else "worse, where both were run"
        if not self.enough and (n < _FEW or self.needed is None):
            return f"n too small to tell; {self.able} seeds each at the least"
        if self.needed is None:
            return f"cannot be told apart, nor by {statistics.MOST:,} seeds if it is so small"
        more = f"; about {self.needed} seeds each may" if self.needed > n else ""
        return ("cannot be told apart" if self.enough else "n too small to tell") + more


class Standing(NamedTuple):
    """A recipe by itself."""

    name: str
    numbers: dict[int, float]  # by seed
    not_done: int  # runs that failed, diverged, or go on
    chance: float  # that it is the best of all


class Verdict(NamedTuple):
    metric: str
    standings: list[Standing]  # best first
    versus: list[Versus]  # the best against each other
    pooled: list[str]  # settings over which a seed's numbers are averaged
    aside: list[str]  # recipes without two finished seeds
    left_out: int  # runs without a partner in each other recipe, or without the metric
    tests: int  # pairs of recipes that p is corrected for

    @property
    def best(self) -> str:
        return self.standings[0].name


def contestants(
    named: Sequence[str],
    folder: str,
    by: Sequence[str] | None = None,
    metric: str | None = None,
    where: str | None = None,
    tell: Callable[[Found], None] = lambda found: None,
) -> list[Contestant]:
    """Each argument is a folder, or a filter of the runs below `folder`; a single folder, or none,
    stands for all recipes in it. `tell` is told what was found, for what could not be read."""

    def runs_of(folders: Sequence[str]) -> list[Entry]:
        found = read(folders, where)
        tell(found)
        return found.runs

    filters = [name for name in named if not Path(name).is_dir()]
    if len(named) < 2 and not filters:
        found = summaries(runs_of(named or [folder]), by, metric)
        if len(found) > 1:
            raise UserError(
                f"These runs are of several tasks, with {' and '.join(s.metric for s in found)}. "
                f"Compare those of one: --where dataset==…"
            )
        recipes = found[0].recipes
        if len(data := {recipe.data for recipe in recipes}) > 1:
            names = ", ".join(" ".join(values) for values in sorted(data))
            raise UserError(
                f"These runs are of several datasets ({names}), which are no recipes of each "
                "other. Compare those of one: --where dataset==…, or settings over all of them: "
                "--by optimizer"
            )
        return [Contestant(recipe.name, recipe.runs) for recipe in recipes]
    if by:
        raise UserError("--by divides one folder into recipes; several are recipes already.")
    below = runs_of([folder]) if filters else []
    return [
        Contestant(name, matching(below, name) if name in filters else runs_of([name]))
        for name in named
    ]


def compare(
    recipes: Sequence[Contestant], metric: str | None = None, of: int | None = None
) -> Verdict:
    """The best against each other: paired by seed, corrected for all pairs of recipes.

    Which recipe is the best, and so which pairs are looked at, is only known from the numbers:
    hence the correction for all pairs. `of` says among how many recipes these are the best. Those
    without two finished seeds are set aside.

    Runs are partners if they have the same seed and are alike in every setting that all recipes
    have values of in common. Where at least half of the runs have partners in all other recipes,
    only these are looked at, so that no recipe is judged by a problem that another was not run on.
    """
    _check(recipes)
    finished = [entry for recipe in recipes for entry in recipe.runs if entry.status == "done"]
    metric = metric or _metric(finished)
    able = [recipe for recipe in recipes if len(by_seed(recipe.runs, metric)) > 1]
    aside = [recipe.name for recipe in recipes if recipe not in able]
    if len(able) < 2:
        raise UserError(
            f"Two recipes with two finished seeds of {metric} are needed for a comparison."
            + (f" There are fewer of: {', '.join(aside)}." if aside else "")
        )
    runs = _matched([recipe.runs for recipe in able], metric)
    numbers = [by_seed(of_it, metric) for of_it in runs]
    higher = higher_is_better(metric)
    order = sorted(
        range(len(able)), key=lambda i: fmean(numbers[i].values()) * (-1 if higher else 1)
    )
    groups, tests = [numbers[i] for i in order], math.comb(of or len(able), 2)
    found = [statistics.compare(groups[0], group) for group in groups[1:]]
    corrected = statistics.holm([comparison.p for comparison in found], tests)
    chances = statistics.chances_of_best(groups, higher)
    counted = sum(len(of_it) for of_it in runs)
    return Verdict(
        metric=metric,
        standings=[
            Standing(
                able[i].name,
                group,
                sum(entry.status != "done" for entry in able[i].runs),
                chance,
            )
            for i, group, chance in zip(order, groups, chances, strict=True)
        ],
        versus=[
            Versus(
                able[i].name,
                comparison,
                p,
                comparison.least_p * tests <= statistics.ALPHA,
                statistics.seeds_able(comparison.paired, tests),
                statistics.seeds_needed(comparison, tests),
                (comparison.difference > 0) == higher,
            )
            for i, comparison, p in zip(order[1:], found, corrected, strict=True)
        ],
        pooled=list(dict.fromkeys(key for of_it in runs for key in varied(of_it))),
        aside=aside,
        left_out=sum(e.status == "done" for recipe in able for e in recipe.runs) - counted,
        tests=tests,
    )


def _check(recipes: Sequence[Contestant]) -> None:
    if len({recipe.name for recipe in recipes}) < len(recipes):
        raise UserError("A recipe is named twice.")
    seen: dict[Path, str] = {}
    for recipe in recipes:
        for entry in recipe.runs:
            other = seen.setdefault(entry.folder.resolve(), recipe.name)
            if other != recipe.name:
                raise UserError(
                    f"{other} and {recipe.name} have runs in common, as {entry.folder}: a recipe "
                    "cannot be compared with itself."
                )


def _metric(finished: Sequence[Entry]) -> str:
    """What all of them are worth; UserError where they are of several tasks."""
    known = list(dict.fromkeys(filter(None, map(metric_of, finished))))
    if len(known) > 1:
        raise UserError(
            f"These runs are of several tasks, with {' and '.join(known)}. Compare those of one: "
            "--where dataset==…, or by one metric that all have: --metric val_loss"
        )
    return known[0] if known else "val_loss"


def _matched(sides: Sequence[Sequence[Entry]], metric: str) -> list[list[Entry]]:
    """The finished runs of each side that have partners on every other; all of them, where these
    are fewer than half of a side."""
    values = [
        {key: {cell(entry.config.get(key)) for entry in side} for key in keys}
        for keys in [varied([entry for side in sides for entry in side])]
        for side in sides
    ]
    shared = [key for key in values[0] if set.intersection(*(of_it[key] for of_it in values))]

    def place(entry: Entry) -> tuple:
        return entry.result["seed"], *(cell(entry.config.get(key)) for key in shared)

    good = [[e for e in s if e.status == "done" and e.number(metric) is not None] for s in sides]
    common = set.intersection(*({place(entry) for entry in side} for side in good))
    matched = [[entry for entry in side if place(entry) in common] for side in good]
    seeds = len({entry.result["seed"] for entry in matched[0]})
    enough = seeds > 1 and 2 * len(matched[0]) >= min(map(len, good))
    return matched if enough else good


# ---------------------------------------------------------------- shown


def show(verdict: Verdict, console: "Console") -> None:
    """Both tables, and a line for each number in them."""
    from rich.measure import Measurement
    from rich.table import Table

    table = Table("recipe", caption=_caption(verdict), caption_justify="left")
    for name in (verdict.metric, "n", "not done", "best of all"):
        table.add_column(name, justify="right", overflow="fold")
    for standing in verdict.standings:
        values = list(standing.numbers.values())
        mean = with_interval(*statistics.interval(values))
        lost = str(standing.not_done or "")
        table.add_row(standing.name, mean, str(len(values)), lost, percent(standing.chance))
    console.print(table)
    headings = ["difference", "95 % interval", "p", "p corrected", "d", "better in", "verdict"]
    table = Table(f"{verdict.best} less")
    for name in headings:
        table.add_column(name, justify="left" if name == "verdict" else "right", no_wrap=True)
    for row in rows(verdict):
        table.add_row(*row)
    anywhere = console.options.update(max_width=1000)
    if Measurement.get(console, anywhere, table).maximum <= console.width:
        console.print(table)
    else:  # a paragraph for each
        for other, difference, *numbers, told in rows(verdict):
            named = zip(headings[1:-1], numbers, strict=True)
            rest = ", ".join(f"{name} {number}" for name, number in named)
            console.print(f"{verdict.best} less {other}: {difference}", style="bold")
            console.print(f"  {rest}: {told}")
        console.print()
    for line in explained(verdict):
        console.print(line, soft_wrap=not console.is_terminal)


def rows(verdict: Verdict) -> list[list[str]]:
    """The cells of each comparison: other, difference, interval, p, corrected p, d, wins,
    verdict."""
    form = form_of(fmean(verdict.standings[0].numbers.values()))
    table = []
    for versus in verdict.versus:
        c = versus.comparison
        spread = math.isfinite(c.low) and math.isfinite(c.shift)  # or nothing is known of it
        table.append(
            [
                versus.other,
                f"{c.difference:+{form}}",
                f"{c.low:+{form}} … {c.high:+{form}}" if spread else "–",
                p_text(c.p),
                p_text(versus.p) if versus.enough else "–",
                f"{c.d:+.2f}" if math.isfinite(c.d) else "–",
                _wins(c, higher_is_better(verdict.metric)),
                versus.verdict,
            ]
        )
    return table


def _wins(c: statistics.Comparison, higher: bool) -> str:
    if c.wins is None:
        return "–"
    return f"{c.wins if higher else c.n[0] - c.wins - c.ties} of {c.n[0]}"


def p_text(p: float) -> str:
    """
    >>> p_text(0.00001), p_text(0.0421), p_text(math.nan)
    ('< 0.001', '0.042', '–')
    """
    return "–" if math.isnan(p) else "< 0.001" if p < 1e-3 else f"{p:.3f}"


def percent(chance: float) -> str:
    """
    >>> percent(0.997), percent(0.0), percent(math.nan)
    ('> 99 %', '< 1 %', '–')
    """
    if math.isnan(chance):
        return "–"
    return "> 99 %" if chance > 0.99 else "< 1 %" if chance < 0.01 else f"{chance:.0%}"[:-1] + " %"


def _caption(verdict: Verdict) -> str:
    over = f"; each seed's is its mean over {', '.join(verdict.pooled)}" if verdict.pooled else ""
    return f"mean ± 95 % interval over n seeds{over}"


def explained(verdict: Verdict) -> list[str]:
    """What each number says, in a line."""
    paired = [versus.comparison.paired for versus in verdict.versus]
    how = (
        "signs of the pairs flipped" if all(paired)
        else "seeds dealt out anew" if not any(paired)
        else "signs of pairs flipped, or seeds dealt out anew"
    )  # fmt: skip
    lines = [
        "best of all: the chance that the true mean is the best, given these numbers (Student's t)",
        "difference: of the means, over the same seeds"
        if all(paired)
        else "difference: of the means; seeds are not shared by all, so not all are pairs",
        "95 % interval: differences that go with these numbers, each by itself; assumes about "
        "normal ones",
        f"p: how often so large a difference comes by chance alone ({how})",
        f"p corrected: for {verdict.tests} pairs of recipes (Holm); – where so few seeds cannot "
        f"give {statistics.ALPHA}",
        "d: the difference in standard deviations over seeds (Cohen); 0.2 is small, 0.8 large",
        f"verdict: better where p corrected ≤ {statistics.ALPHA}; seeds each: as many as find such "
        "a difference in four of five tries, if it is as large as it looks",
    ]
    if not all(versus.enough for versus in verdict.versus):
        lines.append(
            "n too small: no p of so few seeds is small enough; ranks in tables assume about "
            "normal numbers instead, and so tell apart with fewer"
        )
    if verdict.aside:
        lines.append(f"not compared, without two finished seeds: {', '.join(verdict.aside)}")
    if verdict.left_out:
        lines.append(
            f"left out: {verdict.left_out} runs without a partner of the same seed and settings in "
            f"each other recipe, or without {verdict.metric}"
        )
    return lines


def as_dict(verdict: Verdict) -> dict[str, Any]:
    """For JSON."""

    def clean(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return {
        "metric": verdict.metric,
        "best": verdict.best,
        "recipes": [{k: clean(v) for k, v in s._asdict().items()} for s in verdict.standings],
        "versus": [
            {k: clean(v) for k, v in versus.comparison._asdict().items()}
            | {"other": versus.other, "p_corrected": clean(versus.p), "verdict": versus.verdict}
            | {"seeds_needed": versus.needed, "seeds_able": versus.able}
            for versus in verdict.versus
        ],
    }
