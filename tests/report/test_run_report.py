"""report/index.html of made-up runs."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from records import make_local_records, make_records

from fedsim.classes import CAMVID_11
from fedsim.data.partition import Scored
from fedsim.record.overview import Overview
from fedsim.report.run import Curves, Partition, write_run_report
from fedsim.report.run_figures import loss_figure, miou_figure
from fedsim.report.summary import Outcome

CONFIG = '# repeat with: fedsim run --config {path}/config.toml\n\nalgo = "admm"\ncars = 3\nrounds = 4\nseed = 7\n'


@pytest.fixture
def page(tmp_path):
    """The page of records, as text."""
    run = tmp_path / "run"
    (run / "report").mkdir(parents=True)
    (run / "config.toml").write_text(CONFIG.format(path=run))
    (run / "environment.json").write_text(json.dumps({
        "versions": {"torch": "2.9"}, "device": "cpu", "ranks": 2, "data": {"train": "f1f2"}, "given": ["cars", "seed"],
        "warnings": ["val shares drives with train"], "partition": [{"car": 0, "name": "hidden"}]}))
    (run / "metrics.jsonl").write_text("")
    picture = run / "report" / "segmentation.png"
    picture.write_bytes(b"\x89PNG")

    def call(records, warnings=("val shares drives with train",), names=None, pixels=None) -> str:
        cars = names or ["town-0", "town-1", "town-2"]
        counts = np.arange(1, len(cars) * 11 + 1).reshape(len(cars), 11) if pixels is None else pixels
        outcome = Outcome(records, CAMVID_11.names, Scored("val"), {"colour only": 0.27}, ["A note."], warnings)
        write_run_report(outcome, Overview.of(run), CAMVID_11, Partition(cars, counts),
                         Curves(loss_figure(records), miou_figure(records, outcome.baselines)), picture,
                         [run / "metrics.jsonl", picture], run / "report" / "index.html")
        return (run / "report" / "index.html").read_text(encoding="utf-8")
    return call


@pytest.fixture
def undrawn(monkeypatch):
    """Drawing takes longest; for tests that look at none."""
    monkeypatch.setattr("fedsim.report.run.to_svg", lambda figure: "<svg></svg>")


def fact(text: str, name: str) -> str:
    found, = re.findall(rf"<dt>{re.escape(name)}</dt><dd>(.*?)</dd>", text)
    return found


def section(text: str, title: str) -> str:
    head = rf"<section [^>]*>\s*(?:<details><summary>|<h2>){re.escape(title)}<"
    found, = re.findall(rf"{head}.*?</section>", text, re.DOTALL)
    return found


def rows(part: str) -> list[list[str]]:
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", part, re.DOTALL)]


def test_facts_and_the_ledger_are_those_of_the_records(page, undrawn):
    """By hand: bytes add up over rounds; the best round is not the last. Catches sums of the wrong way."""
    records = make_records(rounds=4, cars=3, chosen=lambda number: [0, 1] if number == 2 else [0, 1, 2])
    records[4]["global"]["miou"] = 0.1
    records[2]["failed"] = [2]
    text = page(records)
    assert fact(text, "mIoU, val, round 4") == "0.100"
    assert fact(text, "best mIoU, round 3") == f"{records[3]['global']['miou']:.3f}"
    assert [fact(text, name) for name in ("cars that took part", "MB up", "MB down")] == ["3", "55.0", "27.5"]
    ledger = rows(section(text, "Every round"))[1:]
    assert [row[3] for row in ledger] == ["0", "3", "2", "3", "3"]
    assert ledger[2][4] == "1 (2)" and ledger[1][4] == "–"
    assert [row[7] for row in ledger] == ["0.0", "15.0", "25.0", "40.0", "55.0"]
    local, combine, _ = rows(section(text, "Costs"))[-3:]
    assert local[1:3] == ["20.5", "4.10"] and combine[1] == "0.5"


def test_drives_have_a_section_that_is_folded_if_it_is_long(page, undrawn):
    records = make_records(rounds=2, cars=3)
    assert ">Drives<" not in page(records)
    for count, title in ((3, "Drives"), (25, "All 25 drives")):
        records[2]["global"]["drive_miou"] = {f"d{number}": number / 32 for number in range(count)}
        part = section(page(records), title)
        assert rows(part)[1:] == [[f"d{number}", "–", f"{number / 32:.3f}"] for number in range(count)]
        assert ("<details>" in part) == (count > 24)


def test_what_was_asked_for_stands_apart_with_the_command(page, undrawn):
    text = page(make_records(rounds=2, cars=3))
    asked = section(text, "Settings that were given")
    assert rows(asked)[1:] == [["cars", "3"], ["seed", "7"]] and "fedsim run --config" in asked
    others = section(text, "Other settings")
    assert ["algo", "admm"] in rows(others) and ["seed", "7"] not in rows(others)
    environment = section(text, "Environment")
    assert ["data: train", "f1f2"] in rows(environment) and "hidden" not in environment


def test_warnings_of_the_start_and_of_rounds_are_on_the_page(page, undrawn):
    records = make_records(rounds=2, cars=3)
    records[2]["warning"] = "the step has grown"
    told = re.findall(r'<p class="warning">(.*?)</p>', page(records))
    assert told == ["Val shares drives with train.", "Round 2: the step has grown."]


def test_the_same_run_gives_the_same_page(page):
    """Catches ids by chance, dates, and sets in no order."""
    records = make_records(rounds=3, cars=3)
    assert page(records) == page(records)


@pytest.mark.parametrize(("records", "has", "lacks"), [
    (make_records(rounds=3, cars=3), ["Residuals", "Classes", "Partition"], []),
    (make_records(rounds=0, cars=1), ["Classes"], []),
    (make_local_records(rounds=2, cars=2), ["Cars"], ["Residuals"]),
    (make_records(rounds=3, cars=2, chosen=lambda number: []), ["Residuals"], []),
    (make_records(rounds=30, cars=40, chosen=lambda number: range(number % 2, 40, 2), evaluate_every=4),
     ["All 40 cars that took part"], []),
], ids=["admm", "untrained", "local", "nobody answers", "many cars, half of them a round"])
def test_every_kind_of_run_has_its_page(page, records, has, lacks):
    text = page(records)
    titles = re.findall(r"(?:<h2>|<summary>)(.*?)<", text)
    assert set(has) <= set(titles) and not set(lacks) & set(titles)
    assert not re.search(r"\bnan\b", re.sub('data:image.*?"', "", text, flags=re.DOTALL), re.IGNORECASE)


def test_values_that_are_missing_are_dashes_and_gaps(page):
    """Catches a None that is formatted, and a mean over cars that have nothing."""
    records = make_records(rounds=3, cars=2)
    for record in records:
        record |= {"primal_residual": None, "dual_residual": 0.0, "global": None}
        for entry in record["cars"]:
            entry["dual_norm"] = None
    text = page(records, pixels=np.zeros((3, 11), np.int64))
    assert fact(text, "mIoU, val, round 0") == "–" and "Classes" not in re.findall("<h2>(.*?)<", text)


def test_names_of_cars_are_no_markup(page, undrawn):
    records = make_records(rounds=2, cars=3)
    for record in records:
        for entry in record["cars"]:
            entry["name"] = "<script>alert(1)</script>"
    assert "<script" not in page(records, names=["<script>", "$x$", "名"])


def test_of_many_cars_the_page_stays_small(page):
    """Five megabytes are for a thousand cars and a hundred rounds; here a fourth of the cars, fewer rounds."""
    text = page(make_records(rounds=20, cars=250), names=[f"town-{car}" for car in range(250)])
    assert len(text) < 1_200_000 and "249 town-249" in text


def test_files_are_named_from_the_run_directory(page, undrawn):
    named = [row[0] for row in rows(section(page(make_records(rounds=1, cars=3)), "Files"))[1:]]
    assert str(Path("report/segmentation.png")) in named and "config.toml" in named
