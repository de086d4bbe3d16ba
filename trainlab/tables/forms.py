"""Tables for other programs: runs as csv, json and parquet, recipes as markdown and latex."""

import io
import re
from collections.abc import Sequence
from pathlib import Path

from trainlab.config import UserError, needed
from trainlab.files import write_atomically
from trainlab.tables import recipes
from trainlab.tables.runs import Entry, as_json, frame, rows, write_csv

RUNS, RECIPES = ("csv", "json", "parquet"), ("markdown", "latex")
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "–": "--", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def of_runs(entries: Sequence[Entry], form: str) -> str | bytes:
    """A row or object per run."""
    if form == "json":
        return as_json(rows(entries))
    if form == "parquet":
        needed("pyarrow", "parquet", "--parquet")
        return frame(entries).to_parquet(index=False)
    text = io.StringIO(newline="")
    write_csv(rows(entries), text)
    return text.getvalue()


def of_recipes(summaries: Sequence[recipes.Summary], form: str) -> str:
    """A table per summary, each with its caption."""
    write = markdown if form == "markdown" else latex
    return "\n".join(
        write(recipes.columns(s), list(recipes.cells(s)), recipes.caption(s)) for s in summaries
    )


def markdown(headings: Sequence[str], table: Sequence[Sequence[str]], caption: str = "") -> str:
    """
    >>> print(markdown(["act", "n"], [["relu", "5"]]), end="")
    | act | n |
    |---|---|
    | relu | 5 |
    """
    lines = [headings, *table]
    text = ["| " + " | ".join(_markdown(value) for value in line) + " |" for line in lines]
    text.insert(1, "|" + "---|" * len(headings))
    return "\n".join(text + (["", _markdown(caption)] if caption else [])) + "\n"


def _markdown(text: str) -> str:
    text = re.sub(r"([\\|*`<>\[\]]|\b_|_\b)", r"\\\1", text)
    return " ".join(text.split())


def latex(headings: Sequence[str], table: Sequence[Sequence[str]], caption: str = "") -> str:
    """For the package booktabs."""
    lines = [" & ".join(_latex(value) for value in line) + r" \\" for line in (headings, *table)]
    head = [rf"\begin{{tabular}}{{{'l' * len(headings)}}}", r"\toprule", lines[0], r"\midrule"]
    tail = [r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*head, *lines[1:], *tail, f"% {_latex(caption)}"]) + "\n"


def _latex(text: str) -> str:
    return "".join(_LATEX.get(mark, mark) for mark in text)


def write(content: str | bytes, output: str | None, form: str) -> str | None:
    """Write to a file, or give back what is to be printed."""
    if output is None:
        if isinstance(content, bytes):
            raise UserError(f"--{form} is no text; say where it goes: -o runs.{form}")
        return content
    path = Path(output)
    if not path.parent.is_dir():
        raise UserError(f"There is no folder {path.parent} to write {path.name} to.")
    written = content if isinstance(content, bytes) else content.encode()
    write_atomically(path, lambda beside: beside.write_bytes(written), sync=False)
    return None
