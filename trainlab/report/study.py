"""A study's write-up, NAME.md beside NAME.yaml: what the runs tell, between what a person wrote.

What is written here stands between marks; a second writing replaces what is between them and
nothing else. A part that somebody removed with its marks stays removed; in a file without any mark
all parts come at the end.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from trainlab.config import UserError, nearest, options
from trainlab.files import read_text, write_text
from trainlab.report import story
from trainlab.report.story import Part, Picture, Story
from trainlab.tables import compare, effects, forms, recipes
from trainlab.tables.runs import read

_BEGIN = "<!-- trainlab: "
_MARKED = re.compile(
    rf"{_BEGIN}([a-z]+) -->\n(?:(?!{_BEGIN}).)*?<!-- end -->\n?", re.S
)  # not over the beginning of another part
_FAILURES = 20


def write(name: str, outputs: Path = Path("outputs")) -> Path:
    """(Re)write a study's Markdown and pictures from its runs; gives the file.

    Raises UserError where there is no such study, or no run of it.
    """
    studies = options("experiment")
    if name not in studies:
        raise UserError(f"There is no study {name}.{nearest(name, studies)}")
    if not (outputs / name).is_dir():
        raise UserError(f"There is no run of it yet: trainlab train experiment={name}")
    told = story.told(read([outputs / name]), name)
    file = _place(studies[name], name)
    text = read_text(file) if file.exists() else f"# {name}\n"
    _check(text)
    text = merged(text, dict(_parts(told, _draw(told, file))))
    write_text(file, text)
    return file


def _place(study: Path, name: str) -> Path:
    """Beside the study's own file where that is the user's, else in ./experiments."""
    folder = study.resolve().parent
    if not folder.is_relative_to(Path.cwd().resolve()):
        folder = Path("experiments").resolve()
        folder.mkdir(exist_ok=True)
    return folder.relative_to(Path.cwd().resolve()) / f"{name}.md"


def _check(text: str) -> None:
    """Raise UserError where a part has lost its end: what follows could be a person's."""
    whole = _MARKED.findall(text)
    begun = re.findall(rf"{_BEGIN}(\S*)", text)
    for key in begun:
        if begun.count(key) > whole.count(key):
            raise UserError(
                f"The part {key!r} has no line <!-- end -->. Put it back behind what was written "
                "there, or remove the part; nothing has been changed."
            )


def merged(text: str, parts: dict[str, str]) -> str:
    """The text with its marked parts replaced.

    >>> merged("# a\\n<!-- trainlab: table -->\\nold\\n<!-- end -->\\nMine.\\n", {"table": "new"})
    '# a\\n<!-- trainlab: table -->\\nnew\\n<!-- end -->\\nMine.\\n'
    """
    marked = {
        key: f"<!-- trainlab: {key} -->\n{part.strip()}\n<!-- end -->\n"
        for key, part in parts.items()
    }
    if not _MARKED.search(text):
        return "\n".join([text.rstrip() + "\n", *marked.values()])
    return _MARKED.sub(lambda match: marked.get(match[1], ""), text)


def _draw(told: Story, file: Path) -> list[tuple[Picture, str]]:
    """The pictures as files beside the text: each with its name."""
    drawn = []
    for number, part in enumerate(told.parts):
        for picture in part.pictures:
            from trainlab.pictures import style

            suffix = f"-{number + 1}" if number else ""
            path = file.with_name(f"{file.stem}-{picture.name}{suffix}.svg")
            try:
                with style.styled(style.ink(path)):
                    style.save(picture.draw(), path)
            except UserError:  # of a metrics.csv that is damaged, or another program's
                continue
            drawn.append((picture, path.name))
    return drawn


def _parts(told: Story, pictures: list[tuple[Picture, str]]) -> Iterator[tuple[str, str]]:
    """Name -> Markdown."""
    commands = "\n".join(told.shown)
    yield "question", f"{told.question}\n\n```\n{commands}\n```"
    yield "table", "\n".join(_table(part) for part in told.parts)
    if compared := [_comparison(part, part.verdict) for part in told.parts if part.verdict]:
        yield "comparison", "\n\n".join(compared)
    if choices := [_choices(part) for part in told.parts if part.effects]:
        yield "choices", "\n\n".join(choices)
    if pictures:
        yield "pictures", "\n\n".join(f"![{p.caption}]({name})" for p, name in pictures)
    yield "origin", _origin(told)


def _table(part: Part) -> str:
    return forms.markdown(*story.of_recipes(part), recipes.caption(part.summary))


def _comparison(part: Part, verdict: compare.Verdict) -> str:
    lines = "\n".join(f"- {line}" for line in compare.explained(verdict))
    chances = forms.markdown(*story.of_contestants(verdict))
    which = f"\n{part.compared}\n" if part.compared else ""
    return f"{forms.markdown(*story.of_versus(verdict))}{which}\n{chances}\n{lines}"


def _choices(part: Part) -> str:
    return forms.markdown(*story.of_effects(part), effects.caption(part.summary.metric))


def _origin(told: Story) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in told.counts.items())
    when = told.last[:10]
    where = "; ".join(told.environments)
    failed = "".join(
        f"\n- {run.result['run_id']} {run.status}: {reason}"
        for run, reason in told.failures[:_FAILURES]
    )
    if len(told.failures) > _FAILURES:
        failed += f"\n- and {len(told.failures) - _FAILURES} more"
    return f"{counts} runs, {when}. {where}.{failed}"
