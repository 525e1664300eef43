"""What every car would have, before any training: tables, a heat map, contact sheets, warnings."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fedsim.data.partition import SPLIT_FILE
from fedsim.data.partition.dealt import Dealt
from fedsim.data.partition.skew import ColourStatistics, jensen_shannon, lacking, skew, sole_owner
from fedsim.data.partition.split_file import write_split
from fedsim.report.scenes import contact_sheet
from fedsim.report.tables import Table, markdown, print_tables
from fedsim.system.waiting import waiting

NAMED_CLASSES = 4  # in a cell or a sentence


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
        self.colour_distances = [one.distance(everywhere) for one in colours]  # grey levels
        self.lacking = lacking(dealt.shards, scenes.histograms)

    @property
    def shares(self) -> np.ndarray:
        """Of every class in a car's labelled pixels: (cars, C), rows add up to 1."""
        return self.pixels / self.pixels.sum(1, keepdims=True)

    def warnings(self) -> Iterator[str]:
        """What is unsound, or uneven beyond degree: in one sentence each."""
        yield from self.dealt.warnings()
        names = [shard.name for shard in self.dealt.shards]
        if short := [f"{names[car]} ({self._named(missing)})" for car, missing in enumerate(self.lacking) if missing]:
            yield f"{len(short)} of {len(names)} cars lack classes that others have: {_some(short)}"
        owners = sole_owner(self.dealt.shards, self.dealt.train_set.histograms)
        if len(names) > 1 and owners:
            owned = [f"{self.classes[label]} ({names[car]})" for label, car in owners.items()]
            yield f"only one car has {_some(owned)}"
        if nowhere := [name for name, count in zip(self.classes, self.pool, strict=True) if not count]:
            yield f"no training scene has {_some(nowhere)}"

    def tables(self) -> list[Table]:
        """A row a car: what it has and how far from the pool it is; its classes."""
        dealt, scenes = self.dealt, self.dealt.train_set
        rows, shares = [], []
        for car, shard in enumerate(dealt.shards):
            drives = list(dict.fromkeys(scenes.drives[index] for index in shard.indices))
            rows.append([f"{car:02d} {shard.name}", f"{len(shard.indices):,}", _some(drives),
                         shard.condition or "–", f"{self.divergences[car]:.4f}", f"{self.colour_distances[car]:.1f}",
                         self._named(self.lacking[car]) or "–"])
            shares.append([f"{car:02d} {shard.name}", *(_percent(share) for share in self.shares[car])])
        pool = ["all cars", *(_percent(share) for share in self.pool / self.pool.sum())]
        return [Table(f"Cars, {dealt.source.name}, {len(scenes):,} training scenes (mean divergence "
                      f"{skew(dealt.shards, scenes.histograms):.4f} bits)",
                      ["car", "scenes", "drives", "condition", "classes: JS from pool, bits",
                       "colours: distance from pool", "lacks"], rows, of_cars=True),
                Table("Labelled pixels by class, %", ["car", *self.classes], [pool, *shares], of_cars=True)]

    def record(self) -> dict[str, Any]:
        """All numbers, as JSON has them."""
        scenes = self.dealt.train_set
        return {
            "data": self.dealt.source.name, "training_scenes": len(scenes), "fingerprint": scenes.fingerprint,
            self.dealt.eval_split: {"scenes": len(self.dealt.eval_set),
                                    "drives": list(dict.fromkeys(self.dealt.eval_set.drives))},
            "mean_divergence_bits": skew(self.dealt.shards, scenes.histograms),
            "pixels": dict(zip(self.classes, self.pool.tolist(), strict=True)),
            "warnings": [*self.warnings()],
            "cars": [{
                "car": car, "name": shard.name, "condition": shard.condition, "scenes": len(shard.indices),
                "drives": list(dict.fromkeys(scenes.drives[index] for index in shard.indices)),
                "pixels": dict(zip(self.classes, self.pixels[car].tolist(), strict=True)),
                "lacks": [self.classes[label] for label in self.lacking[car]],
                "divergence_bits": self.divergences[car],
                "colour_mean": self.colours[car].mean, "colour_deviation": self.colours[car].deviation,
                "colour_distance": self.colour_distances[car],
            } for car, shard in enumerate(self.dealt.shards)]}

    def _named(self, labels: list[int]) -> str:
        return _some([self.classes[label] for label in labels])


def write_inspection(inspection: Inspection, folder: Path) -> None:
    """Print the tables, and write them with figures and the split into an empty folder."""
    # Here, because matplotlib takes long to import.
    from fedsim.report.heat_map import draw_heat_map

    dealt, tables, warnings = inspection.dealt, inspection.tables(), [*inspection.warnings()]
    print_tables(tables)
    for warning in warnings:
        print(f"WARNING: {warning}")
    text = [*map(markdown, tables), *(f"Warning: {warning}." for warning in warnings)]
    (folder / "inspection.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")
    (folder / "inspection.json").write_text(json.dumps(inspection.record(), indent=1, ensure_ascii=False) + "\n",
                                            encoding="utf-8")
    write_split(folder / SPLIT_FILE, dealt.shards, dealt.train_set, dealt.source.name)
    draw_heat_map([shard.name for shard in dealt.shards], dealt.train_set.classes, inspection.shares,
                  folder / "classes.png")
    (folder / "cars").mkdir()
    with waiting("drawing cars", len(dealt.shards)) as advance:
        for car, shard in enumerate(dealt.shards):
            name = "".join(letter if letter.isalnum() or letter in "-_.+" else "-" for letter in shard.name)
            contact_sheet(dealt.train_set, shard.indices).save(folder / "cars" / f"car-{car:02d}-{name[:100]}.png")
            advance()
    print("\nWritten:")
    for path in (folder / "inspection.md", folder / "inspection.json", folder / SPLIT_FILE, folder / "classes.png",
                 folder / "cars"):
        print(f"  {path}")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED_CLASSES} more" if len(names) > NAMED_CLASSES else ""
    return ", ".join(names[:NAMED_CLASSES]) + more


def _percent(share: float) -> str:
    return "–" if share == 0 else f"{100 * share:.1f}" if share >= 0.0005 else "<0.1"
