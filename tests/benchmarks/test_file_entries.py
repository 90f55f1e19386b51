"""Reading official files: what is wrong is named by file and line."""

import pytest

from regap_benchmarks.official.file_entries import (
    OfficialFileError,
    SetFolder,
    each_once,
    read_csv,
    read_json,
    read_json_lines,
)


def _write(tmp_path, text, name="file.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _csv(tmp_path, text, columns=("id", "text")):
    return list(read_csv(_write(tmp_path, text, "t.csv"), columns))


def test_rows_of_csv_know_the_line_that_they_begin_on(tmp_path):
    rows = _csv(tmp_path, 'id,text\r\n1,"two\nlines"\r\n2,"a ""b"", c\u2028d"\r\n\r\n3,e\r\n')
    assert [(row.place, row.text("text")) for row in rows] == [
        ("line 2", "two\nlines"),
        ("line 4", 'a "b", c\u2028d'),
        ("line 6", "e"),
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    assert _csv(tmp_path, b"\xef\xbb\xbfid,text\n1,a\n")[0].name("id") == "1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,other\n1,a\n", r"t\.csv, line 1: expected the columns id, text, found id, other"),
        ("", r"t\.csv, line 1: .*found an empty file"),
        ("id,text\n1,a\n2\n", r"t\.csv, line 3: expected 2 fields, found 1"),
        ("id,text\n1,a,b\n", r"t\.csv, line 2: expected 2 fields, found 3"),
        ('id,text\n1,a\n2,"b\n', r"t\.csv, line 3: expected a row of CSV"),
        (b"id,text\n1,a\n2,\xff\n", r"t\.csv, line 3: expected UTF-8, found the byte 0xff"),
    ],
)
def test_a_damaged_csv_file_is_refused_by_line(tmp_path, text, message):
    with pytest.raises(OfficialFileError, match=message):
        _csv(tmp_path, text)


def test_parts_of_json_know_their_lines(tmp_path):
    listed = read_json(_write(tmp_path, '[\n {"a": "1\\n"},\n\n {"a": 2}, {"a": 3}]\n'))
    assert [(entry.place, entry.values["a"]) for entry in listed] == [
        ("line 2", "1\n"),
        ("line 4", 2),
        ("line 4", 3),
    ]
    keyed = read_json(_write(tmp_path, '{"0": {},\n"1": {"b": [1]}}'))
    assert [(entry.key, entry.place) for entry in keyed] == [("0", "line 1"), ("1", "line 2")]
    assert read_json(_write(tmp_path, "[]")) == read_json(_write(tmp_path, " { } ")) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[\n{"a": 1},\n{"a": ', "line 3: expected JSON"),
        ('[\n{"a": 1},\n', "line 3: expected JSON"),
        ('[{"a": 1}\n{"a": 2}]', "line 2: expected JSON, found expecting ','"),
        ('[{"a": 1},\n]', "line 2: expected JSON, found a comma before the end"),
        ('[{"a": 1}]\nmore', "line 1: expected JSON, found more after the end"),
        ('"text"', "line 1: expected JSON, found neither a list nor an object"),
        ("", "line 1: expected JSON, found neither"),
        ("[{},\n1]", "line 2: expected an object, found an integer"),
        ('{"0": {},\n"1": {},\n"0": {}}', "line 3: expected each key once, found '0', .* line 1"),
        ("{0: {}}", "line 1: expected JSON"),
        ('{"0" {}}', "line 1: expected JSON, found expecting ':'"),
    ],
)
def test_damaged_json_is_refused_by_line(tmp_path, text, message):
    with pytest.raises(OfficialFileError, match=message):
        read_json(_write(tmp_path, text))


def test_damaged_json_lines_are_refused_by_line(tmp_path):
    path = _write(tmp_path, '{"a": 1}\n\n{"a": 2}\n')
    assert [entry.place for entry in read_json_lines(path)] == ["line 1", "line 3"]
    for text, message in (
        ('{"a": 1}\n{"a": \n', "line 2: expected JSON"),
        ('{"a": 1}\n3\n', "line 2: expected an object, found an integer"),
    ):
        with pytest.raises(OfficialFileError, match=message):
            list(read_json_lines(_write(tmp_path, text)))


@pytest.mark.parametrize(
    ("values", "ask", "message"),
    [
        ('{"a": "  "}', lambda entry: entry.text("a"), "a text in 'a', found a blank text"),
        ('{"a": ""}', lambda entry: entry.text("a"), "found an empty text"),
        ('{"a": null}', lambda entry: entry.text("a"), "found null"),
        ('{"a": 2}', lambda entry: entry.any_text("a"), "a text in 'a', found an integer"),
        ('{"b": 2}', lambda entry: entry.text("a"), "expected the field 'a', found 'b'"),
        ('{"a": "x"}', lambda entry: entry.integer("a"), "an integer in 'a', found another text"),
        ('{"a": true}', lambda entry: entry.name("a"), "a text in 'a', found a flag"),
        ('{"a": "maybe"}', lambda entry: entry.flag("a"), "true or false in 'a'"),
        ('{"a": {}}', lambda entry: entry.items("a"), "a list in 'a', found an empty object"),
        (
            '{"a": "z"}',
            lambda entry: entry.one_of("a", ("x", "y")),
            "one of x, y in 'a', found 'z'",
        ),
        ('{"a": [1]}', lambda entry: entry.one_of("a", ("x",)), "found a list"),
    ],
)
def test_a_field_of_another_kind_is_refused(tmp_path, values, ask, message):
    (entry,) = read_json_lines(_write(tmp_path, values))
    with pytest.raises(OfficialFileError, match=message):
        ask(entry)


def test_fields_are_read_as_what_they_mean(tmp_path):
    (entry,) = read_json_lines(_write(tmp_path, '{"a": "True", "b": 7, "c": "7", "d": false}'))
    assert (entry.flag("a"), entry.flag("d")) == (True, False)
    assert (entry.integer("b"), entry.integer("c"), entry.name("b")) == (7, 7, "7")
    assert entry.any_text("e") == ""


def test_an_id_that_is_there_twice_is_refused_with_both_lines(tmp_path):
    path = _write(tmp_path, "id,text\n1,a\n1,b\n1,a\n", "t.csv")
    with pytest.raises(OfficialFileError, match=r"line 4: .*id '1', text 'a', which is in line 2"):
        list(each_once(read_csv(path, ("id", "text")), ("id", "text")))


def test_the_folder_is_below_the_data_or_the_data_itself(tmp_path):
    flat = SetFolder(tmp_path, "xstest")
    assert flat.root == tmp_path
    with pytest.raises(FileNotFoundError, match=r"xstest.p\.csv: expected the official file"):
        flat.file("p.csv")
    (tmp_path / "xstest").mkdir()
    folder = SetFolder(tmp_path, "xstest")
    assert folder.root == tmp_path / "xstest"
    assert folder.picture(folder.root / "a" / "b.png").parameters == {"path": "xstest/a/b.png"}
    with pytest.raises(FileNotFoundError, match=r"xstest.p\.csv: expected the official file"):
        folder.file("p.csv", "q.csv")
    with pytest.raises(ValueError, match="--data: expected the folder that holds xstest/"):
        SetFolder(None, "xstest")
    with pytest.raises(FileNotFoundError, match=r"Mend --data"):
        SetFolder(tmp_path / "no", "xstest")
