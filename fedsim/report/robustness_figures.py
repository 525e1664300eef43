"""The figures of `fedsim evaluate`.

Importing this imports matplotlib, which takes long: import it when there is something to draw.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedsim.data.conditions import perturb
from fedsim.data.perturbations import PERTURBATIONS, SEVERITIES, Perturbation
from fedsim.data.scene_set import SceneSet, Source
from fedsim.evaluation.robustness import Robustness
from fedsim.report.figures import save_png, styled
from fedsim.report.palette import LineStyle
from fedsim.report.scenes import read_own_picture

COLUMNS = 5
SHOWN_SEVERITY = 3


def draw_robustness(results: Mapping[str, Robustness], lines: Sequence[LineStyle], path: Path) -> None:
    """Draw mIoU against severity as a PNG at `path`: a panel for each kind, a line for each run.

    Severity 0 is the clean set. lines: the style of each run's line.
    """
    kinds = list(next(iter(results.values())).kinds())
    columns = min(COLUMNS, max(3, len(kinds)))
    rows = -(-len(kinds) // columns)
    with styled():
        figure = Figure(figsize=(1.75 * columns, 1.5 * rows + 0.55), layout="constrained")
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, kind in zip(panels, kinds, strict=False):
            for (name, result), line in zip(results.items(), lines, strict=True):
                points = [(0, result.clean.miou), *((perturbation.severity, score.miou) for perturbation, score
                                                    in result.perturbed.items() if perturbation.kind == kind)]
                axes.plot(*zip(*points, strict=True), color=line.colour, linestyle=line.dash,
                          linewidth=1.3, marker=line.marker, markersize=3, label=name)
            axes.set_title(kind)
        for axes, above in zip(panels[len(kinds):], panels[len(kinds) - columns:], strict=False):
            axes.set_axis_off()
            above.tick_params(labelbottom=True)
        panels[0].set(xlim=(-0.3, SEVERITIES + 0.3), ylim=(0, None))
        panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.supxlabel("severity (0: as it is)", fontsize=9)
        figure.supylabel("mIoU", fontsize=9)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)))
        save_png(figure, path)


def draw_contact_sheet(scenes: SceneSet, source: Source, split: str, seed: int, path: Path) -> None:
    """Draw the scene of most contrast as it is and under every kind at severity 3, as a PNG at `path`."""
    index = max(range(len(scenes)), key=lambda index: scenes.images[index].std())
    image, name = read_own_picture(scenes, source, split, index).transpose(2, 0, 1)[None], scenes.names[index]
    pictures = {name: image[0]}
    for kind in PERTURBATIONS:
        pictures[kind] = perturb(image, [name], Perturbation(kind, SHOWN_SEVERITY), seed)[0]
    height, width = image.shape[2:]
    rows = -(-len(pictures) // COLUMNS)
    with styled(grid=None):
        figure = Figure(figsize=(2.0 * COLUMNS, (2.0 * height / width + 0.22) * rows), layout="constrained")
        for axes, (title, picture) in zip(figure.subplots(rows, COLUMNS).ravel(), pictures.items(), strict=True):
            axes.imshow(picture.transpose(1, 2, 0), interpolation="nearest")
            axes.set_title(title, fontsize=8, pad=2)
            axes.set_axis_off()
        save_png(figure, path)
