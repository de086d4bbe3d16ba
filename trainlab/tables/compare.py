"""Two recipes or more: is there a difference, how large is it, and how sure can one be?"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from trainlab.config import UserError
from trainlab.metrics import higher_is_better
from trainlab.tables import statistics
from trainlab.tables.recipes import form_of, metric_of, summaries, with_interval
from trainlab.tables.runs import Entry, cell, read, varied
from trainlab.tables.where import matching

if TYPE_CHECKING:
    from rich.console import Console

_PAIRS = 2  # common seeds from which on recipes are compared in pairs


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


class Verdict(NamedTuple):
    metric: str
    best: str
    recipes: list[dict[str, Any]]  # name, numbers (seed -> number), not_done, chance; best first
    versus: list[Versus]
    pooled: list[str]  # settings over which a seed's numbers are averaged
    tests: int  # pairs of recipes that p is corrected for


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
    hence the correction for all pairs. `of` says among how many recipes these are the best.
    """
    if len(recipes) < 2:
        raise UserError("There is only one recipe here, and nothing to compare it with.")
    for recipe in recipes:
        if not any(entry.status == "done" for entry in recipe.runs):
            raise UserError(f"{recipe.name}: no run of it is finished.")
    if len({recipe.name for recipe in recipes}) < len(recipes):
        raise UserError("A recipe is named twice.")
    metric = metric or next(
        (name for r in recipes for e in r.runs if e.status == "done" and (name := metric_of(e))),
        "val_loss",
    )
    for recipe in recipes:
        if not _numbers(recipe.runs, metric):
            raise UserError(f"{recipe.name}: no finished run of it has {metric}.")
    higher = higher_is_better(metric)
    means = [statistics.interval(list(_by_seed(r.runs, metric).values()))[0] for r in recipes]
    order = sorted(range(len(recipes)), key=lambda i: -means[i] if higher else means[i])
    ordered = [recipes[i] for i in order]
    best, tests = ordered[0], math.comb(of or len(recipes), 2)
    found, left_out = [], []
    for other in ordered[1:]:
        comparison, without = _versus(best.runs, other.runs, metric)
        found.append(comparison)
        left_out.append(without)
    corrected = statistics.holm([comparison.p for comparison in found], tests)
    chances = statistics.chances_of_best([_by_seed(r.runs, metric) for r in ordered], higher)
    pooled = {key: None for recipe in ordered for key in varied(recipe.runs)}
    return Verdict(
        metric=metric,
        best=best.name,
        recipes=[
            {
                "name": recipe.name,
                "numbers": _by_seed(recipe.runs, metric),
                "not_done": sum(entry.status != "done" for entry in recipe.runs),
                "chance": chance,
            }
            for recipe, chance in zip(ordered, chances, strict=True)
        ],
        versus=[
            Versus(
                other.name,
                comparison,
                p,
                comparison.least_p * tests <= statistics.ALPHA,
                statistics.seeds_needed(comparison, tests),
                without,
            )
            for other, comparison, p, without in zip(
                ordered[1:], found, corrected, left_out, strict=True
            )
        ],
        pooled=list(pooled),
        tests=tests,
    )


def _numbers(runs: Sequence[Entry], metric: str) -> list[tuple[Entry, float]]:
    good = ((e, e.number(metric)) for e in runs if e.status == "done")
    return [(entry, value) for entry, value in good if value is not None]


def _by_seed(runs: Sequence[Entry], metric: str) -> dict[int, float]:
    """Each seed's mean: what shares a seed is no independent number."""
    found: dict[int, list[float]] = {}
    for entry, value in _numbers(runs, metric):
        found.setdefault(entry.result["seed"], []).append(value)
    return {seed: sum(values) / len(values) for seed, values in sorted(found.items())}


def _versus(
    a: Sequence[Entry], b: Sequence[Entry], metric: str
) -> tuple[statistics.Comparison, int]:
    """The comparison of two recipes' runs, and how many runs it leaves out.

    Runs are partners if they have the same seed and are alike in every setting that both recipes
    have values of in common.
    """
    runs = [*a, *b]
    values = {k: [{cell(e.config.get(k)) for e in side} for side in (a, b)] for k in varied(runs)}
    shared = [key for key, (one, two) in values.items() if one & two]

    def places(side: Sequence[Entry]) -> dict[tuple, tuple[Entry, float]]:
        return {
            (entry.result["seed"], *(cell(entry.config.get(key)) for key in shared)): (entry, value)
            for entry, value in _numbers(side, metric)
        }

    first, second = places(a), places(b)
    common = first.keys() & second.keys()
    if len({place[0] for place in common}) >= _PAIRS:
        one, two = (
            _by_seed([side[place][0] for place in common], metric) for side in (first, second)
        )
        x, y = (_values(numbers) for numbers in (one, two))
        return statistics.compare_paired(x, y), len(first) + len(second) - 2 * len(common)
    x, y = (_values(_by_seed(side, metric)) for side in (a, b))
    return statistics.compare_unpaired(x, y), 0


def _values(numbers: dict[int, float]) -> list[float]:
    """In the order of the seeds."""
    return [numbers[seed] for seed in sorted(numbers)]


# ---------------------------------------------------------------- shown


def show(verdict: Verdict, console: "Console") -> None:
    """Both tables, and a line for each number in them."""
    from rich.table import Table

    table = Table("recipe", caption=_caption(verdict), caption_justify="left")
    for name in (verdict.metric, "n", "not done", "best of all"):
        table.add_column(name, justify="right", overflow="fold")
    for recipe in verdict.recipes:
        values = list(recipe["numbers"].values())
        mean = with_interval(*statistics.interval(values))
        lost = str(recipe["not_done"] or "")
        table.add_row(recipe["name"], mean, str(len(values)), lost, percent(recipe["chance"]))
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
    form = form_of(statistics.interval(list(verdict.recipes[0]["numbers"].values()))[0])
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
        "recipes": [{k: clean(v) for k, v in recipe.items()} for recipe in verdict.recipes],
        "versus": [
            {k: clean(v) for k, v in versus.comparison._asdict().items()}
            | {"other": versus.other, "p_corrected": clean(versus.p), "verdict": versus.verdict}
            | {"seeds_needed": versus.needed, "left_out": versus.left_out}
            for versus in verdict.versus
        ],
    }
