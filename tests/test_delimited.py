"""Tables as spreadsheets, instruments and people write them: read, or refused with a remedy."""

import gzip
import io
import json
import pickle
import sqlite3
import zipfile

import numpy as np
import pandas as pd
import pytest

from trainlab.config import UserError
from trainlab.data import tables
from trainlab.data.delimited import Form
from trainlab.data.examples import check


@pytest.fixture
def csv(tmp_path):
    """Read a table from its text or bytes."""

    def read(text, target="y", **settings):
        file = tmp_path / "table.csv"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        examples = tables.csv(path=str(file), target=target, **settings)
        check(examples, "csv")
        return examples

    return read


ROWS = "1.5,u\n2.5,v\n3.5,u\n"
SPACED = "a  b\ty\n1 2  u\n 3 4\tv \n5   6 u\n"


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("a,y\n" + ROWS, {}),
        ("sep=,\na,y\n" + ROWS, {}),
        ('"SEP=;"\r\na;y\r\n' + ROWS.replace(",", ";").replace("\n", "\r\n"), {}),
        ("\ufeffsep=^\na^y\n" + ROWS.replace(",", "^"), {}),
        ("a^y\n" + ROWS.replace(",", "^"), dict(separator="^")),
        ("a y\n" + ROWS.replace(",", " "), {}),
        ("a y\n" + ROWS.replace(",", " "), dict(separator="space")),
        ("  a   y\n" + ROWS.replace(",", "\t  "), dict(separator="whitespace")),
        ("a:y\n" + ROWS.replace(",", ":"), dict(separator=":")),
        ("Sales, all\n\na,y\n" + ROWS, dict(skip=2)),
        ("Sales\na;y\n" + ROWS.replace(",", ";"), dict(skip=1)),
        ("Sales\nsep=|\na|y\n" + ROWS.replace(",", "|"), dict(skip=1)),
        ("# one, two, three\n#\na,y\n# more\n" + ROWS + "# end\n", dict(comment="#")),
        ("a,y,,\n" + ROWS.replace("\n", ",,\n"), {}),
        ("a,y\n" + ROWS.replace("\n", ",\n"), {}),
        ("a,y\n" + ROWS.replace("\n", ",,,\n"), {}),
        ("a,y\n,\n1.5,u\n\n,\n2.5,v\n3.5,u\n,\n,\n", {}),
        (",,\n\na,y,\n" + ROWS.replace("\n", ",\n"), {}),
        ("\n\n \na,y\n" + ROWS, {}),
        ("\ufeff\ufeffa,y\n" + ROWS, {}),
        (("a,y\n" + ROWS).replace("\n", "\r"), {}),
        (("sep=,\na,y\n" + ROWS).replace("\n", "\r"), {}),
        (("\ufeffa,y\n" + ROWS).replace("\n", "\r\n"), {}),
        ('"a","y"\n' + ROWS.replace("u", '"u"'), {}),
        ("a;y\n" + ROWS.replace(",", ";").replace(".", ","), dict(decimal="comma")),
        (ROWS, dict(header=False, target=1)),
        (ROWS, dict(header=False, target="1")),
        ("a,y\n" + ROWS, dict(header=True)),
        (("a,y\n" + ROWS).encode("utf-16"), {}),
        (("a,y\n" + ROWS).encode("utf-16-le"), {}),
        (("a,y\n" + ROWS).encode("utf-16-be"), {}),
        (("\ufeffa,y\n" + ROWS).encode("utf-16-le"), dict(encoding="utf-16-le")),
        (("a,y\n" + ROWS).encode("utf-32"), {}),
        (("\ufeffa\ty\r\n" + ROWS.replace(",", "\t")).encode("utf-16-be"), {}),
        (gzip.compress(("a,y\n" + ROWS).encode(), mtime=0), {}),
        (gzip.compress(("a,y\n" + ROWS).encode("utf-16"), mtime=0), {}),
        (("a,y\n" + ROWS).encode("utf-16"), dict(encoding="UTF16")),
    ],
)
def test_a_table_is_read_whatever_is_around_it(csv, text, settings):
    examples = csv(text, **settings)
    assert examples.x[:, 0].tolist() == [1.5, 2.5, 3.5]
    assert (examples.y.tolist(), examples.classes) == ([0, 1, 0], ["u", "v"])
    assert examples.columns == (("0",) if settings.get("header") is False else ("a",))


def test_blanks_of_any_kind_and_number_separate(csv):
    examples = csv(SPACED)
    assert examples.columns == ("a", "b")
    assert examples.x.tolist() == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "Windows-1252", "mac-roman"])
def test_another_encoding_is_told(csv, encoding):
    text = "größe,y\n1,ü\n2,é\n"
    examples = csv(text.encode(encoding), encoding=encoding)
    assert (examples.columns, examples.classes) == (("größe",), ["é", "ü"])


def test_what_is_left_out_is_said(csv):
    assert csv("a,y\n" + ROWS).notes == ()
    (note,) = csv("a,y,,\n" + ROWS.replace("\n", ",,\n")).notes
    assert "2 columns of " in note


def workbook(name="xl/workbook.xml"):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, "<x/>")
    return packed.getvalue()


def database(tmp_path):
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("CREATE TABLE a (b)")
    connection.close()
    return (tmp_path / "a.db").read_bytes()


OTHERS = [
    (workbook(), "Excel workbook.*read_excel"),
    (workbook("data.csv"), "zip archive.*unzip"),
    (workbook("x.npy"), "dataset=npz"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "old Excel.*read_excel"),
    (b"PAR1" + bytes(range(99)), "parquet.*read_parquet"),
    (pickle.dumps({"a": [1, 2]}), "pickle"),
    (pickle.dumps(pd.DataFrame({"a": [1]}), protocol=4), "pickle"),
    (pickle.dumps([1, 2], protocol=2), "pickle"),
    (b"<!DOCTYPE html>\n<html>", "HTML"),
    (b"\n  <html lang='en'>", "HTML"),
    (b'<?xml version="1.0"?>', "HTML.* or XML"),
    (b'{"a": [1, 2]}', "JSON.*read_json"),
    (b'[{"a": 1}]', "JSON.*read_json"),
    (b"\x93NUMPY\x01\x00", "numpy array.*dataset=npz"),
    (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    (b"%PDF-1.4", "PDF"),
    (b"BZh91AY", "bunzip2"),
    (b"a,b\n1,\x002\n" + bytes(9), "zero bytes"),
    (gzip.compress(workbook(), mtime=0), "Excel workbook"),
]


@pytest.mark.parametrize(("content", "message"), OTHERS, ids=[told for _, told in OTHERS])
def test_another_kind_of_file_is_named(csv, content, message):
    with pytest.raises(UserError, match=message):
        csv(content)


def test_a_database_is_named(csv, tmp_path):
    with pytest.raises(UserError, match=r"SQLite.*sqlite3"):
        csv(database(tmp_path))


TITLED = "Sales of 2024\n\na,b,y\n1,2,u\n3,4,v\n5,6,u\n"
IRIS = "5.1,3.5,setosa\n4.9,3.0,setosa\n6.3,3.3,virginica\n"


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        (
            IRIS,
            dict(target="species"),
            "'5.1,3.5,setosa', looks like.*dataset.header=false.*0 to 2",
        ),
        (IRIS, dict(target="2"), "dataset.header=false"),
        (IRIS, dict(target="setosa"), "dataset.header=false"),
        ("1,2\n3,4\n5,7\n", {}, "dataset.header=false.*dataset.header=true"),
        ("0,1\n1,0\n1,1\n", {}, "dataset.header=false"),
        ("p,x,s\np,x,t\ne,y,s\np,y,t\n", {}, "dataset.header=false"),
        ("1;u\n2;v\n3;u\n", {}, "dataset.header=false"),
        ("a,b,a\n1,2,3\n", {}, "two columns are called 'a'.*dataset.header=false"),
        (TITLED, {}, r"'Sales of 2024', is no .*line 3 .*'a,b,y'.*: dataset.skip=2\."),
        (TITLED.replace(",", ";"), {}, "dataset.skip=2"),
        ("# made by x\n#\n" + TITLED[15:], {}, r"dataset.skip=2, or 'dataset.comment=.#.'"),
        ("Sales,,\n,,\n" + TITLED[15:], {}, r"'Sales,,'.*dataset.skip=2\."),
        ("a b\nn 1 2\nm 3 4\n", {}, "with names of rows.*give it one"),
        ("a b\nn 1 2\nm 3 4\n", dict(separator="space"), "with names of rows.*give it one"),
        ("a,y\n1,u\n2,v,w\n3,u\n", {}, "line 3 has 3 cells, and those before it 2"),
        ('a,y\n1,"u\n2,v\n', {}, "quotation mark that opens in row 1, .* never closed"),
        ("a,y\n" + "1,u\n" * 70 + "1,u,2\n", {}, "line 72 has 3 cells"),
        ("a,y\n" + ROWS, dict(skip=9), "no line after dataset.skip=9"),
        ("a,y\n" + ROWS, dict(separator="::"), "a single character"),
        ("a,y\n" + ROWS, dict(separator="semicolon"), "a sign of another separator"),
        ("a,y\n" + ROWS, dict(encoding="cp9999"), "no encoding that is known"),
        ("a,y\n" + ROWS, dict(encoding="hex"), "no encoding that is known"),
        ("é,y\n1,u\n", dict(encoding="ascii"), "not text in ASCII"),
        ("größe,y\n1,u\n".encode("cp1252"), {}, "'größe' if it is in cp1252.*encoding=cp1252"),
        (("a,y\n" + "1,u\n" * 9000 + "2,Zoë\n").encode("cp1252"), {}, "'Zoë' if .*encoding=cp1252"),
        ("a,y,\n1,u,2\n3,v,4\n", {}, "column 2 .*has no name"),
    ],
)
def test_what_cannot_be_told_is_refused_with_a_remedy(csv, text, settings, message):
    with pytest.raises(UserError, match=message):
        csv(text, **settings)


@pytest.mark.parametrize(
    ("text", "target", "columns"),
    [
        ("country,2019,2020\nA,1,2\nB,3,4\nB,3,5\n", "2020", ("country", "2019")),
        ("0,1,2,3\n.1,.2,.3,u\n.1,.2,.3,v\n", "3", ("0", "1", "2")),
        ("0,1,2,y\n.1,.2,.3,u\n.1,.2,.3,v\n", "y", ("0", "1", "2")),
        ("a,y\nu,v\nv,u\nu,u\n", "y", ("a",)),
        ("1960,1970,kind\n1,2,u\n3,4,v\n", "kind", ("1960", "1970")),
    ],
)
def test_numbers_may_be_names(csv, text, target, columns):
    assert csv(text, target=target).columns == columns


def test_inputs_of_a_run_are_read_by_its_form(tmp_path):
    """Its columns tell the line of names, also where they are numbers; blank rows keep places."""
    known = dict(columns=["0", "7"], categorical=[], categories=[])
    file = tmp_path / "new.csv"
    for text, form in [
        ("Made today\n7;0\n2,5;1\n;\n3;4\n;\n", Form(skip=1, decimal="comma")),
        ("7,0\n2.5,1\n,\n3,4\n,\n", Form()),
        ("7 0\n2.5 1\nNA NA\n3 4\n", Form()),
    ]:
        file.write_text(text)
        np.testing.assert_array_equal(
            tables.like(file, known, form), [[1, 2.5], [np.nan, np.nan], [4, 3]]
        )
    file.write_text("1,,,,,,,2.5\n4,,,,,,,3\n")
    np.testing.assert_array_equal(tables.like(file, known, Form(header=False)), [[1, 2.5], [4, 3]])


def test_a_run_reads_other_files_as_it_read_its_own(trainlab, folder):
    """Eval and predict: the form is the run's, and what was left out of one file is in no other."""
    rows = "".join(f"{i};{i * 7 % 11},5;{'é' if i % 2 else 'u'};;\n" for i in range(40))
    typed = ["dataset=csv", "dataset.path=a.csv", "dataset.target=2", "dataset.header=false"]
    typed += ["dataset.skip=1", "dataset.encoding=cp1252", "dataset.decimal=comma", "epochs=1"]
    for name in ("a.csv", "b.csv"):
        (folder / name).write_bytes(("A title\n" + rows).encode("cp1252"))
    run = trainlab("train", *typed, "dataset.drop=['3','4']")
    assert run.code == 0, run.err
    answer = trainlab("eval", str(run.path), "--data", "b.csv", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["all"]["loss"] > 0
    call = ["predict", str(run.path), "--output", "out.csv", "--input"]
    assert trainlab(*call, "b.csv").code == 0
    assert list(pd.read_csv("out.csv"))[1:] == ["p_u", "p_é"]
    (folder / "b.csv").write_bytes(workbook())
    for verb in (call, ["eval", str(run.path), "--data"]):
        answer = trainlab(*verb, "b.csv")
        assert answer.code == 2
        assert len(answer.err.splitlines()) == 1


def test_what_is_left_out_of_a_table_is_warned_of(trainlab, folder):
    (folder / "a.csv").write_text("a,y,\n" + "1.5,u,\n2.5,v,\n" * 20)
    run = trainlab("train", "dataset=csv", "dataset.path=a.csv", "dataset.target=y", "epochs=1")
    assert run.code == 0, run.err
    assert "without a name and without a value" in run.err
    assert "without a value" in (run.path / "log.txt").read_text()
