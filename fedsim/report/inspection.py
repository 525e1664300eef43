"""The report on a partition: tables, a heat map, contact sheets, warnings."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fedsim.data.partition import SPLIT_FILE
from fedsim.data.partition.dealt import Dealt
from fedsim.data.partition.skew import ColourStatistics, jensen_shannon, missing_classes, skew, sole_owner
from fedsim.data.partition.split_file import write_split
from fedsim.report.scenes import contact_sheet
from fedsim.report.tables import Table, markdown, print_block, print_tables
from fedsim.report.words import ABSENT, format_percent, list_names
from fedsim.system.console import show_steps
from fedsim.system.names import fit_name

NAMED = 4  # names in a cell or a sentence; further ones are only counted


class Inspection:
    """A partition, measured."""

    def __init__(self, dealt: Dealt) -> None:
        self.dealt, scenes = dealt, dealt.train_set
        self.classes = scenes.classes.names
        self.pixels = np.stack([scenes.histograms[shard.indices].sum(0) for shard in dealt.shards])  # (cars, C)
        self.pool = self.pixels.sum(0)
        self.divergences = [jensen_shannon(car, self.pool) for car in self.pixels]  # bits
        colours = [ColourStatistics.of(scenes.images, shard.indices) for shard in dealt.shards]
        everywhere = ColourStatistics.of(scenes.images, np.concatenate([shard.indices for shard in dealt.shards]))
        self.colours = colours
        self.colour_distances = [statistics.distance(everywhere) for statistics in colours]  # grey levels
        self.lacking = missing_classes(dealt.shards, scenes.histograms)

    @property
    def shares(self) -> np.ndarray:
        """The share of each class in each car's labelled pixels, (cars, C); rows add up to 1."""
        return self.pixels / self.pixels.sum(1, keepdims=True)

    def warnings(self) -> Iterator[str]:
        """Yield a sentence for everything in the partition that is unsound or very uneven."""
        yield from self.dealt.warnings()
        names = [shard.name for shard in self.dealt.shards]
        if short := [f"{names[car]} ({self._names(missing)})" for car, missing in enumerate(self.lacking) if missing]:
            yield f"{len(short)} of {len(names)} cars lack classes that others have: {list_names(short, NAMED)}"
        owners = sole_owner(self.dealt.shards, self.dealt.train_set.histograms)
        if len(names) > 1 and owners:
            owned = [f"{self.classes[label]} ({names[car]})" for label, car in owners.items()]
            yield f"only one car has {list_names(owned, NAMED)}"
        if nowhere := [name for name, count in zip(self.classes, self.pool, strict=True) if not count]:
            yield f"no training scene has {list_names(nowhere, NAMED)}"

    def tables(self) -> list[Table]:
        """Return two tables with a row for each car: its scenes and its distance from the pool; its classes."""
        dealt, scenes = self.dealt, self.dealt.train_set
        holds_out = dealt.own_test_set is not None
        rows, shares = [], []
        for car, shard in enumerate(dealt.shards):
            drives = list(dict.fromkeys(scenes.drives[index] for index in shard.indices))
            rows.append([f"{car:02d} {shard.name}", f"{len(shard.indices):,}",
                         *([f"{len(shard.own_test):,}"] if holds_out else []), list_names(drives, NAMED),
                         shard.condition or ABSENT, f"{self.divergences[car]:.4f}", f"{self.colour_distances[car]:.1f}",
                         self._names(self.lacking[car])])
            shares.append([f"{car:02d} {shard.name}", *(format_percent(share) for share in self.shares[car])])
        pool = ["all cars", *(format_percent(share) for share in self.pool / self.pool.sum())]
        return [Table(f"Cars, {dealt.source.name}, {len(scenes):,} training scenes{self._without()} (mean divergence "
                      f"{skew(dealt.shards, scenes.histograms):.4f} bits)",
                      ["car", "scenes", *(["held out"] if holds_out else []), "drives", "condition",
                       "classes: JS from pool, bits", "colours: distance from pool", "lacks"], rows, long=True),
                Table("Labelled pixels by class, %", ["car", *self.classes], [pool, *shares], long=True)]

    def to_json(self) -> dict[str, Any]:
        """Return all numbers in the form of inspection.json."""
        scenes = self.dealt.train_set
        return {
            "data": self.dealt.source.name, "training_scenes": len(scenes), "fingerprint": scenes.fingerprint,
            "hold_out_drive": self.dealt.scored.drive,
            self.dealt.scored.split: {"scenes": len(self.dealt.eval_set),
                                    "drives": list(dict.fromkeys(self.dealt.eval_set.drives))},
            "mean_divergence_bits": skew(self.dealt.shards, scenes.histograms),
            "pixels": dict(zip(self.classes, self.pool.tolist(), strict=True)),
            "warnings": [*self.warnings()],
            "cars": [{
                "car": car, "name": shard.name, "condition": shard.condition, "scenes": len(shard.indices),
                "own_test": len(shard.own_test),
                "drives": list(dict.fromkeys(scenes.drives[index] for index in shard.indices)),
                "pixels": dict(zip(self.classes, self.pixels[car].tolist(), strict=True)),
                "lacks": [self.classes[label] for label in self.lacking[car]],
                "divergence_bits": self.divergences[car],
                "colour_mean": self.colours[car].mean, "colour_deviation": self.colours[car].deviation,
                "colour_distance": self.colour_distances[car],
            } for car, shard in enumerate(self.dealt.shards)]}

    def _without(self) -> str:
        return f" without drive {self.dealt.scored.drive}" if self.dealt.scored.drive is not None else ""

    def _names(self, labels: list[int]) -> str:
        return list_names([self.classes[label] for label in labels], NAMED)


def write_inspection(inspection: Inspection, folder: Path) -> None:
    """Write the tables, with figures and the split, into an empty folder; then print them."""
    # Here, because matplotlib takes long to import.
    from fedsim.report.heat_map import draw_heat_map

    dealt, tables, warnings = inspection.dealt, inspection.tables(), [*inspection.warnings()]
    text = [*map(markdown, tables), *(f"Warning: {warning}." for warning in warnings)]
    (folder / "inspection.md").write_text("\n\n".join(text) + "\n", encoding="utf-8", errors="replace")
    (folder / "inspection.json").write_text(json.dumps(inspection.to_json(), indent=1, ensure_ascii=False) + "\n",
                                            encoding="utf-8", errors="replace")
    write_split(folder / SPLIT_FILE, dealt.shards, dealt.train_set, dealt.source.name)
    draw_heat_map([shard.name for shard in dealt.shards], dealt.train_set.classes, inspection.shares,
                  folder / "classes.png")
    (folder / "cars").mkdir()
    with show_steps("drawing cars", len(dealt.shards)) as advance:
        for car, shard in enumerate(dealt.shards):
            name = "".join(letter if letter.isalnum() or letter in "-_.+" else "-" for letter in shard.name)
            sheet = contact_sheet(dealt.train_set, dealt.train_source, shard.indices)
            sheet.save(folder / "cars" / fit_name(f"car-{car:02d}-{name}", ".png"))
            advance()
    print_tables(tables)
    for warning in warnings:
        print(f"WARNING: {warning}")
    written = ("inspection.md", "inspection.json", SPLIT_FILE, "classes.png", "cars")
    print_block("Written", (folder / name for name in written))
