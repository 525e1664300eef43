"""Tables of labels: what they may look like, and every mistake with its line."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.classes import VOID
from fedsim.data.datasets.label_table import class_index, class_table, read_labels, refuse_other_table
from fedsim.errors import DataError

HEADER = "label,name,red,green,blue"
GROUPED = (f"{HEADER},trained_as\n3,Lane,1,1,1,Road\n0,Road,2,2,2,Road\n9,Bonnet,2,2,2,\n1,Van,3,3,3,Car\n"
           "2,Hole,0,0,0,void\n")


@pytest.fixture
def table(tmp_path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "classes.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def classes_of(path: Path):
    labels = read_labels(path)
    classes = class_table(path, labels)
    return classes, {label.number: class_index(label, classes) for label in labels}


def test_labels_of_one_class_are_one_and_its_colour_is_that_of_the_label_of_its_name(table):
    classes, targets = classes_of(table(GROUPED))
    assert classes.names == ("Road", "Car") and classes.colours == ((2, 2, 2), (3, 3, 3))
    assert targets == {3: 0, 0: 0, 9: VOID, 1: 1, 2: VOID}


def test_without_trained_as_a_label_is_a_class_of_its_own_and_void_is_none(table):
    classes, targets = classes_of(table(f"{HEADER}\n5,Road,1,1,1\n6,Void,0,0,0\n7,Car,2,2,2\n"))
    assert classes.names == ("Road", "Car") and targets == {5: 0, 6: VOID, 7: 1}


@pytest.mark.parametrize("change", [
    lambda text: "\ufeff" + text, lambda text: text.replace("\n", "\r\n"), lambda text: text.replace(",", " , "),
    lambda text: "# mine\n\n" + text + "\n,,,,,\n", lambda text: text.replace("label,name", "Label,NAME"),
    lambda text: text.replace("Lane", '"Lane"').rstrip("\n"),
    lambda text: "".join(",".join(reversed(line.split(","))) + "\n" for line in text.splitlines())],
    ids=["byte order mark", "Windows", "spaces", "comments", "capitals", "quotes", "columns in another order"])
def test_what_spreadsheets_and_editors_make_of_a_table_changes_nothing(table, change):
    assert classes_of(table(change(GROUPED))) == classes_of(table(GROUPED))


@pytest.mark.parametrize("other", ["ROAD", "Road ", " road", "Ro\u0061d"])
def test_classes_whose_names_differ_in_capitals_or_spaces_are_one(table, other):
    text = f"{HEADER},trained_as\n0,Road,1,1,1,Road\n1,Lane,2,2,2,{other}\n2,Sky,3,3,3,Sky\n"
    classes, targets = classes_of(table(text))
    assert classes.names == ("Road", "Sky") and targets == {0: 0, 1: 0, 2: 1}


def test_letters_may_be_composed_or_not(table):
    classes, _ = classes_of(table(f"{HEADER},trained_as\n0,Stra\u00dfe,1,1,1,Ger\u00e4t\n1,Weg,2,2,2,Gera\u0308t\n"))
    assert len(classes) == 1


def test_trained_as_counts_and_not_a_name(table):
    text = f"{HEADER},trained_as\n0,Road,1,1,1,Road\n1,Void,2,2,2,Road\n2,Sky,3,3,3,VOID\n"
    classes, targets = classes_of(table(text))
    assert classes.names == ("Road",) and targets == {0: 0, 1: 0, 2: VOID}


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_spreadsheets_may_use_another_delimiter(table, delimiter):
    assert classes_of(table(GROUPED.replace(",", delimiter))) == classes_of(table(GROUPED))


def test_colours_are_made_up_if_the_table_has_none(table):
    rows = "".join(f"{number},class {number}\n" for number in range(255))
    classes, targets = classes_of(table(f"label,name\n{rows}"))
    assert len(set(classes.colours)) == 255 and targets == {number: number for number in range(255)}
    assert all(0 <= level <= 255 for colour in classes.colours for level in colour)


def test_a_table_that_contradicts_a_data_set_s_own_is_refused(table):
    own = {0: "Sky", 1: "Road", 2: None}
    refuse_other_table(table("label,name\n0,sky\n1,ROAD\n2,void\n3,more\n"), own)
    for text, says in (("label,name\n0,Road\n", "line 2 says that 0 is Road, but in this data set it is Sky"),
                       ("label,name\n0,sky\n2,Road\n", "line 3 says that 2 is Road, but in this data set it is void")):
        with pytest.raises(DataError, match=says):
            refuse_other_table(table(text), own)


@pytest.mark.parametrize(("text", "says"), [
    (f"{HEADER},trained as,trained_as\n0,Road,1,1,1,Road,Car\n", "has two columns trained_as"),
    (f"{HEADER},train_as\n0,Road,1,1,1,Car\n", "has a column train_as, which is not read; did you mean trained_as?"),
    (f"{HEADER}\n0,Traffic light,1,1,1\n1,traffic  LIGHT,2,2,2\n", "line 3: traffic  LIGHT has the name of Traffic"),
    ("", "has no column label and no column name and no column red"),
    ("label,name,red,green\n0,Road,1,1\n", "has no column blue; its first line must be label,name,red,green,blue"),
    ("label|name|red|green|blue\n", "has no column label"),
    (f"{HEADER}\n0,Road,1,1\n", "line 2 has 4 values, but there are 5 columns"),
    (f"{HEADER}\n0,Road,1,1,1,1\n", "line 2 has 6 values, but there are 5 columns"),
    (f"{HEADER}\n0,Road,1,1,256\n", "line 2 has '256' as blue; it must be a whole number from 0 to 255"),
    (f"{HEADER}\n0,Road,-1,1,1\n", "line 2 has '-1' as red"), (f"{HEADER}\n0,Road,1,1.5,1\n", "'1.5' as green"),
    (f"{HEADER}\n0,Road,1,,1\n", "'' as green"), (f"{HEADER}\n0,Road,1,²,1\n", "'²' as green"),
    (f"{HEADER}\n65536,Road,1,1,1\n", "line 2 has '65536' as label; it must be a whole number from 0 to 65535"),
    (f"{HEADER}\n{'9' * 5000},Road,1,1,1\n", "it must be a whole number from 0 to 65535"),
    (f"{HEADER}\n0,,1,1,1\n", "line 2 has no name"),
    (f"{HEADER}\n0,Road,1,1,1\n# more\n0,Car,2,2,2\n", "line 4: Car has the number of Road in line 2"),
    (f"{HEADER}\n0,Road,1,1,1\n1,road,2,2,2\n", "line 3: road has the name of Road in line 2"),
    (f"{HEADER}\n0,Road,1,1,1\n1,Car,1,1,1\n", "line 3: Car has the colour of Road in line 2"),
    (f"{HEADER}\n0,void,1,1,1\n", "has no classes that are not void"),
    (HEADER, "has no classes that are not void"),
    (HEADER + "".join(f"\n{i},c{i},{i % 256},{i // 256},0" for i in range(256)), "has 256 classes"),
    (b"\xff\xfe\x00", "is not text in UTF-8; save it again as UTF-8"),
])
def test_a_table_that_cannot_be_is_refused_with_its_line(table, text, says):
    path = table(text)
    with pytest.raises(DataError) as error:
        classes_of(path)
    message = str(error.value)
    assert message.startswith(str(path)) and says in message and "\n" not in message and ". " not in message


def test_255_classes_are_as_many_as_there_may_be(table):
    classes, targets = classes_of(table(HEADER + "".join(f"\n{i},c{i},{i},0,0" for i in range(255))))
    assert len(classes) == 255 and VOID not in targets.values()


@given(st.lists(st.tuples(st.integers(0, 65535), st.sampled_from(["", "Road", "Car", "Tree"])), min_size=1, max_size=20,
                unique_by=lambda row: row[0]))
def test_every_label_gets_the_class_its_line_names(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("table") / "classes.csv"
    lines = [f"{number},name {number},{number >> 8},{number & 255},0,{trained}" for number, trained in rows]
    path.write_text("\n".join([f"{HEADER},trained_as", *lines]))
    if not any(trained for _, trained in rows):
        with pytest.raises(DataError, match="no classes"):
            classes_of(path)
        return
    classes, targets = classes_of(path)
    named = np.array([*classes.names, *[""] * (256 - len(classes))])
    assert [(number, named[targets[number]]) for number, _ in rows] == rows
