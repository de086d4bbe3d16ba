"""Two recipes or more: is there a difference, how large is it, and how sure can one be?"""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from trainlab.config import UserError
from trainlab.metrics import higher_is_better
from trainlab.tables import statistics
from trainlab.tables.recipes import by_seed, form_of, metric_of, summaries, with_interval
from trainlab.tables.runs import Entry, cell, read, varied
from trainlab.tables.where import matching

if TYPE_CHECKING:
    from rich.console import Console

_PAIRS = 2  # common seeds, at the least, for recipes to be compared in pairs


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
    needed: int | None  # seeds of each; None where 1,000 would not do
    left_out: int  # runs without a partner

    @property
    def apart(self) -> bool:
        return self.enough and self.p <= statistics.ALPHA

    @property
    def verdict(self) -> str:
        """In words, and what would tell more."""
        n = min(self.comparison.n)
        if self.apart:
            return "better"
        more = ""
        if self.needed and self.needed > n:
            seeds = "seed" if self.needed == n + 1 else "seeds"
            more = f"; {self.needed - n} more {seeds} ({self.needed} each) may"
        if self.enough and self.needed is None:
            more = f"; nor would {statistics.MOST:,} seeds tell so small a difference"
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
    aside: list[str]  # recipes without a finished run
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
) -> list[Contestant]:
    """Each argument is a folder, or a filter of the runs below `folder`; a single folder, or none,
    stands for all recipes in it."""
    filters = [name for name in named if not Path(name).is_dir()]
    if len(named) < 2 and not filters:
        found = summaries(read(named or [folder], where).runs, by, metric)
        if len(found) > 1:
            raise UserError(
                f"These runs are of several tasks, with {' and '.join(s.metric for s in found)}. "
                f"Compare those of one: --metric {found[0].metric}"
            )
        return [Contestant(recipe.name, recipe.runs) for recipe in found[0].recipes]
    if by:
        raise UserError("--by divides one folder into recipes; several are recipes already.")
    below = read([folder], where).runs if filters else []
    return [
        Contestant(name, matching(below, name) if name in filters else read([name], where).runs)
        for name in named
    ]


def compare(
    recipes: Sequence[Contestant], metric: str | None = None, of: int | None = None
) -> Verdict:
    """The best against each other: paired by seed, corrected for all pairs of recipes.

    Which recipe is the best, and so which pairs are looked at, is only known from the numbers:
    hence the correction for all pairs. `of` says among how many recipes these are the best. Those
    without a finished run are set aside.
    """
    if len({recipe.name for recipe in recipes}) < len(recipes):
        raise UserError("A recipe is named twice.")
    finished = (entry for recipe in recipes for entry in recipe.runs if entry.status == "done")
    metric = metric or next(filter(None, map(metric_of, finished)), "val_loss")
    numbers = {recipe.name: by_seed(recipe.runs, metric) for recipe in recipes}
    aside = [name for name, of_it in numbers.items() if not of_it]
    if len(recipes) - len(aside) < 2:
        without = f" No finished run with {metric} is in: {', '.join(aside)}." if aside else ""
        raise UserError(f"Two recipes are needed for a comparison.{without}")
    higher = higher_is_better(metric)
    ordered = sorted(
        (recipe for recipe in recipes if recipe.name not in aside),
        key=lambda recipe: fmean(numbers[recipe.name].values()) * (-1 if higher else 1),
    )
    best, *others = ordered
    tests = math.comb(of or len(ordered), 2)
    found = [_versus(best.runs, other.runs, metric) for other in others]
    corrected = statistics.holm([comparison.p for comparison, _ in found], tests)
    chances = statistics.chances_of_best([numbers[recipe.name] for recipe in ordered], higher)
    return Verdict(
        metric=metric,
        standings=[
            Standing(
                recipe.name,
                numbers[recipe.name],
                sum(entry.status != "done" for entry in recipe.runs),
                chance,
            )
            for recipe, chance in zip(ordered, chances, strict=True)
        ],
        versus=[
            Versus(
                other.name,
                comparison,
                p,
                comparison.least_p * tests <= statistics.ALPHA,
                statistics.seeds_needed(comparison, tests),
                left_out,
            )
            for other, (comparison, left_out), p in zip(others, found, corrected, strict=True)
        ],
        pooled=list(dict.fromkeys(key for recipe in ordered for key in varied(recipe.runs))),
        aside=aside,
        tests=tests,
    )


def _versus(
    a: Sequence[Entry], b: Sequence[Entry], metric: str
) -> tuple[statistics.Comparison, int]:
    """The comparison of two recipes' runs, and how many runs it leaves out.

    Runs are partners if they have the same seed and are alike in every setting that both recipes
    have values of in common. Where fewer than half of the seeds have partners, none are pairs.
    """
    values = {
        key: [{cell(entry.config.get(key)) for entry in side} for side in (a, b)]
        for key in varied([*a, *b])
    }
    shared = [key for key, (one, two) in values.items() if one & two]

    def places(side: Sequence[Entry]) -> dict[tuple, list[Entry]]:
        found: dict[tuple, list[Entry]] = {}
        for entry in side:
            if entry.status == "done" and entry.number(metric) is not None:
                settings = (cell(entry.config.get(key)) for key in shared)
                found.setdefault((entry.result["seed"], *settings), []).append(entry)
        return found

    sides = places(a), places(b)
    common = sides[0].keys() & sides[1].keys()
    pairs = len({place[0] for place in common})
    fewest = min(len({place[0] for place in side}) for side in sides)
    if pairs >= max(_PAIRS, fewest / 2):
        partners = [[run for place in common for run in side[place]] for side in sides]
        x, y = (list(by_seed(side, metric).values()) for side in partners)
        runs = sum(len(of_place) for side in sides for of_place in side.values())
        return statistics.compare_paired(x, y), runs - sum(map(len, partners))
    x, y = (list(by_seed(side, metric).values()) for side in (a, b))
    return statistics.compare_unpaired(x, y), 0


# ---------------------------------------------------------------- shown


def show(verdict: Verdict, console: "Console") -> None:
    """Both tables, and a line for each number in them."""
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
    table = Table(f"{verdict.best} less", title_justify="left")
    for name in ("difference", "95 % interval", "p", "d", "better in"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("verdict", overflow="fold")
    for row in rows(verdict):
        table.add_row(*row)
    console.print(table)
    for line in explained(verdict):
        console.print(line, markup=False, soft_wrap=True)


def rows(verdict: Verdict) -> list[list[str]]:
    """The cells of each comparison: other, difference, interval, p, d, wins, verdict."""
    table = []
    form = form_of(fmean(verdict.standings[0].numbers.values()))
    for versus in verdict.versus:
        c = versus.comparison
        spread = math.isfinite(c.low) and math.isfinite(c.effect)  # or nothing is known of it
        table.append(
            [
                versus.other,
                f"{c.difference:+{form}}",
                f"{c.low:+{form}} … {c.high:+{form}}" if spread else "–",
                p_text(versus.p),
                f"{c.effect:+.2f}" if spread else "–",
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
    several = (
        f", corrected for {verdict.tests} pairs of recipes (Holm)" if verdict.tests > 1 else ""
    )
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
        "95 % interval: differences that go with these numbers; assumes about normal ones",
        f"p: how often so large a difference comes by chance alone ({how}){several}",
        "d: the difference in standard deviations; 0.2 is small, 0.8 large (Cohen)",
        f"verdict: better where p ≤ {statistics.ALPHA}; more seeds: as many as find such a "
        "difference in four of five tries",
    ]
    if not all(versus.enough for versus in verdict.versus):
        lines.append(
            "n too small: no p of so few seeds is small enough; ranks in tables assume about "
            "normal numbers instead, and so tell apart with fewer"
        )
    if verdict.aside:
        lines.append(f"not compared, without a finished run: {', '.join(verdict.aside)}")
    if left_out := sum(versus.left_out for versus in verdict.versus):
        lines.append(f"left out: {left_out} runs without a partner of the same seed and settings")
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
            | {"seeds_needed": versus.needed, "left_out": versus.left_out}
            for versus in verdict.versus
        ],
    }
