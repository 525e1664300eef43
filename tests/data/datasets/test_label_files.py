"""Labels: every way in which a PNG can hold numbers or colours is read right, or refused."""

import numpy as np
import pytest
from layouts import HEIGHT, WIDTH, draw, save, write_folder
from PIL import Image
from pngs import GREY_ALPHA, PALETTE, RGB, RGBA, write_png

from fedsim.classes import VOID
from fedsim.data.datasets.folder import Folder
from fedsim.data.datasets.label_files import BLURRED, FEW, ColourLabels, IndexLabels, colour_code
from fedsim.data.datasets.palettes import BY_COLOUR, DOUBTED, VOC
from fedsim.errors import DataError

SIZE = (WIDTH, HEIGHT)
COLOURS = [(128, 64, 128), (64, 0, 128), (128, 128, 128), (128, 128, 0)]  # of the classes 0 to 3
BLACK, STRANGE = (0, 0, 0), (9, 99, 199)
CLASSES = {0: 0, 1: 1, 2: 2, 3: 3, 255: VOID}
TABLE = dict(enumerate(COLOURS)) | {255: BLACK}
NUMBERS = IndexLabels(CLASSES, "look it up", TABLE)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "label.png"


def refused(*paths, labels=NUMBERS) -> str:
    with pytest.raises(DataError) as error:
        settled = labels.settle(paths)
        for one in paths:
            settled.read(one, SIZE)
    message = str(error.value)
    assert "\n" not in message and ". " not in message, message
    return message


def read(*paths, labels=NUMBERS):
    settled = labels.settle(paths)
    return [settled.read(one, SIZE) for one in paths]


# Bit depths and channels


@pytest.mark.parametrize("depth", [2, 4, 8, 16])
def test_grey_holds_samples_that_are_not_scaled(path, depth):
    """Pillow scales 2 and 4 bits to 8: 3 becomes 255."""
    drawn = draw(4).label
    label, = read(write_png(path, drawn, depth))
    assert np.array_equal(label.pixels, drawn) and label.remarks == ()


@pytest.mark.parametrize("depth", [2, 4, 8])
def test_numbers_of_a_palette_are_not_scaled(path, depth):
    drawn = draw(4).label
    assert np.array_equal(read(write_png(path, drawn, depth, PALETTE, COLOURS))[0].pixels, drawn)


def test_one_bit_is_refused_if_1_may_mean_255(path):
    write_png(path, draw(2).label, 1)
    assert "is grey of 1 bit, so 1 may also mean 255, and both are numbers of the table" in refused(path)
    for numbers, expected in (({0: 0, 1: 1}, [0, 1]), ({0: 0, 1: VOID, 255: VOID}, [0, VOID]),
                              ({0: 0, 2: 1, 255: VOID}, [0, VOID])):
        label, = read(path, labels=IndexLabels(numbers, "look it up"))
        assert np.array_equal(label.pixels, np.array(expected)[draw(2).label])
    write_png(path, np.zeros((HEIGHT, WIDTH), np.uint8), 1)
    assert not read(path)[0].pixels.any(), "0 is 0 at any depth"


@pytest.mark.parametrize(("depth", "table"), [(1, [0, 255]), (2, [0, 85, 170, 255]), (4, [0, 17, 34])])
def test_samples_that_only_scaled_are_in_the_table_are_scaled(path, depth, table):
    """What optimisers make of grey of 8 bits: the same picture in fewer bits."""
    labels = IndexLabels({number: index for index, number in enumerate(table)}, "look it up")
    drawn = draw(len(table)).label
    assert np.array_equal(read(write_png(path, drawn, depth), labels=labels)[0].pixels, drawn)


def test_few_bits_are_refused_only_if_all_numbers_have_two_meanings(path):
    every = IndexLabels({n: n for n in range(255)} | {255: VOID}, "look it up")
    write_png(path, draw(16).label, 4)
    assert "is grey of 4 bits, so 15 may also mean 255" in refused(path, labels=every)
    ends = draw(2).label * 3
    write_png(path, ends, 2)
    assert np.array_equal(read(path, labels=every)[0].pixels, ends), "if it were scaled, it would have 1 bit"


@pytest.mark.parametrize("kind", [RGB, RGBA, GREY_ALPHA])
def test_equal_channels_are_one_number(path, kind):
    drawn = draw(3).label
    opaque = np.full_like(drawn, 255)
    channels = {RGB: [drawn] * 3, RGBA: [drawn] * 3 + [opaque], GREY_ALPHA: [drawn, opaque]}[kind]
    assert np.array_equal(read(write_png(path, np.dstack(channels), 8, kind))[0].pixels, drawn)


@pytest.mark.parametrize(("kind", "depth", "pixel", "says"), [
    (RGB, 8, (1, 1, 2), "is in colour (mode RGB)"), (RGBA, 8, (1, 2, 1, 255), "is in colour (mode RGBA)"),
    (RGBA, 8, (1, 1, 1, 254), "is transparent in places"), (GREY_ALPHA, 8, (1, 0), "is transparent in places"),
    (RGB, 16, (1, 1, 1), "holds 16 bits in each of several channels"),
    (GREY_ALPHA, 16, (1, 65535), "holds 16 bits in each of several channels")])
def test_other_channels_are_no_numbers(path, kind, depth, pixel, says):
    """Pillow reads 16 bits in colour as 8, and would give 0 for every small number."""
    write_png(path, np.tile(pixel, (HEIGHT, WIDTH, 1)), depth, kind)
    assert says in refused(path)


def test_colours_of_16_bits_are_refused(path):
    labels = ColourLabels({colour_code(*colour): index for index, colour in enumerate(COLOURS)}, "look it up")
    write_png(path, np.array(COLOURS)[draw(4).label], 16, RGB)
    assert "holds 16 bits in a channel, but colours of classes have 8" in refused(path, labels=labels)


@pytest.mark.parametrize("form", ["JPEG", "MPO"])
def test_a_format_that_loses_detail_is_refused_by_what_it_is(path, form):
    """An MPO is a JPEG of several pictures, which Pillow opens as such."""
    image = Image.fromarray(draw(2).picture)
    image.save(path, form, **({"save_all": True, "append_images": [image]} if form == "MPO" else {}))
    assert "is a JPEG, which blurs labels into classes that nobody drew; a label must be a PNG" in refused(path)


@pytest.mark.parametrize(("form", "called"), [("TIFF", "TIFF"), ("WEBP", "WebP"), ("BMP", "BMP")])
def test_a_label_of_another_format_is_to_be_saved_as_png_and_not_as_jpeg(path, form, called):
    Image.fromarray(draw(2).label).save(path, form)
    assert refused(path) == f"{path} is {called}, but a label must be a PNG; save it as PNG"


# Palettes


def number_anew(drawn: np.ndarray, order: list[int], colours=COLOURS) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """Give class order[i] the number i; return numbers and palette."""
    numbers = np.zeros(max(order) + 1, np.uint8)
    numbers[order] = np.arange(len(order))
    return numbers[drawn], [colours[index] for index in order]


def test_palettes_of_other_numbers_are_read_by_their_colours(tmp_path):
    """Tools number the classes of each file anew, and optimisers sort palettes."""
    paths, drawn = [], []
    for index, order in enumerate([[0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]]):
        drawn.append(draw(4, index).label)
        numbers, palette = number_anew(drawn[-1], order)
        paths.append(write_png(tmp_path / f"{index}.png", numbers, 8, PALETTE, palette))
    labels = read(*paths)
    for label, right in zip(labels, drawn, strict=True):
        assert np.array_equal(label.pixels, right) and label.remarks == (BY_COLOUR,)


def test_a_palette_of_the_table_s_own_numbers_is_read_by_numbers(path):
    drawn = draw(4).label
    label, = read(write_png(path, drawn, 8, PALETTE, COLOURS))
    assert np.array_equal(label.pixels, drawn) and label.remarks == ()


def test_colours_that_the_table_does_not_know_do_not_matter_while_they_agree(tmp_path):
    drawn = draw(3).label
    one = write_png(tmp_path / "1.png", drawn, 8, PALETTE, [STRANGE, (1, 2, 3), (3, 2, 1)])
    label, = read(one)
    assert np.array_equal(label.pixels, drawn) and label.remarks == ()
    two = write_png(tmp_path / "2.png", drawn, 8, PALETTE, [(1, 2, 3), STRANGE, (3, 2, 1)])
    assert f"{two} shows the number 0 as 1 2 3, but {one} shows it as 9 99 199" in refused(one, two)


def test_the_black_of_a_common_map_is_no_class(tmp_path):
    """PASCAL VOC's map shows 0 as black, which is the colour of void in most tables."""
    voc = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)]
    assert VOC[:7].tolist() == [list(colour) for colour in voc] and VOC[255].tolist() == [224, 224, 192]
    labels = IndexLabels({0: 0, 1: 1, 255: VOID}, "look it up", {0: (1, 2, 3), 1: (128, 0, 0), 255: BLACK})
    drawn = draw(2).label
    label, = read(write_png(tmp_path / "a.png", drawn, 8, PALETTE, voc), labels=labels)
    assert np.array_equal(label.pixels, drawn) and label.remarks == ()


def test_a_palette_with_some_colours_of_other_classes_is_doubted(path):
    drawn = draw(3).label
    label, = read(write_png(path, drawn, 8, PALETTE, [STRANGE, COLOURS[0], COLOURS[2]]))
    assert np.array_equal(label.pixels, drawn) and label.remarks == (DOUBTED,)


def test_colours_of_several_classes_cannot_tell_them_apart(path):
    labels = IndexLabels({0: 0, 1: 1, 2: 2}, "look it up", {0: COLOURS[0], 1: COLOURS[1], 2: COLOURS[1]})
    write_png(path, draw(2).label, 8, PALETTE, [COLOURS[1], COLOURS[0]])
    assert "the colour 64 0 128 of its number 0 stands for several classes" in refused(path, labels=labels)


@pytest.mark.parametrize("palette", [[(n, n, n) for n in range(256)], [(7, 7, 7)] * 256, [BLACK] * 256])
def test_palettes_of_greys_or_of_one_colour_say_nothing(path, palette):
    drawn = draw(3).label
    label, = read(write_png(path, drawn, 8, PALETTE, palette))
    assert np.array_equal(label.pixels, drawn) and label.remarks == ()


def test_grey_numbers_that_became_a_palette_are_read_by_their_greys(path):
    """What optimisers make of grey: number 1 shows the grey 255."""
    labels = IndexLabels({0: 0, 7: 1, 255: VOID}, "look it up", {0: COLOURS[0], 7: COLOURS[1], 255: BLACK})
    label, = read(write_png(path, draw(3).label, 8, PALETTE, [(0, 0, 0), (255, 255, 255), (7, 7, 7)]), labels=labels)
    assert np.array_equal(label.pixels, np.array([0, VOID, 1])[draw(3).label]) and label.remarks == (BY_COLOUR,)
    write_png(path, draw(2).label, 1, PALETTE, [(0, 0, 0), (255, 255, 255)])
    assert "the number 1 is the grey level 255, and both are numbers of the table" in refused(path)


def test_a_palette_scaled_for_viewers_is_read_by_numbers(path):
    drawn = draw(3).label
    label, = read(write_png(path, drawn, 2, PALETTE, [(0, 0, 0), (85, 85, 85), (170, 170, 170)]))
    assert np.array_equal(label.pixels, drawn)


def test_a_folder_tells_how_its_palettes_were_read(tmp_path):
    root = write_folder(tmp_path, {f"town/{i}": draw(3, i) for i in range(3)})
    table = root / "classes.csv"
    table.write_text(table.read_text().replace("2,void,0,0,0", "2,Sky,128,128,128"))
    for i in range(3):
        numbers, palette = number_anew(draw(3, i).label, [2, 0, 1])
        write_png(root / f"labels/train/town/{i}.png", numbers, 8, PALETTE, palette)
    for i, scene in enumerate(Folder(root).scenes("train")):
        assert np.array_equal(scene.label, draw(3, i).label) and scene.remarks == (BY_COLOUR,)


def test_palettes_that_contradict_each_other_in_two_splits_are_refused(tmp_path):
    """Each split by itself is sound: one tool has run for each."""
    root = write_folder(tmp_path, {"a/0": draw(2)})
    write_folder(root, {"b/0": draw(2, 1)}, "val")
    write_png(root / "labels/train/a/0.png", draw(2).label, 8, PALETTE, [STRANGE, (1, 2, 3)])
    write_png(root / "labels/val/b/0.png", draw(2, 1).label, 8, PALETTE, [(1, 2, 3), STRANGE])
    for split in ("train", "val"):
        with pytest.raises(DataError, match="so the number may mean two classes"):
            list(Folder(root).scenes(split))


def test_a_number_that_only_a_palette_of_its_own_explains_is_not_to_be_added_to_the_table(path):
    """Following such advice would give wrong labels without a word."""
    drawn = draw(5).label
    write_png(path, drawn, 8, PALETTE, [COLOURS[1], COLOURS[0], COLOURS[2], COLOURS[3], STRANGE])
    assert "holds a palette with colours of the table at other numbers" in refused(path)


# Colours of no class


def test_a_few_blurred_pixels_are_void_and_more_are_refused(path):
    labels = ColourLabels({colour_code(*colour): index for index, colour in enumerate(COLOURS)}, "look it up")
    colours = np.array(COLOURS, np.uint8)[np.zeros((100, 100), int)]
    few = int(FEW * 100 * 100)
    colours.reshape(-1, 3)[:few] = STRANGE
    save(colours, path)
    label = labels.read(path, (100, 100))
    assert (label.pixels == VOID).sum() == few and (label.pixels == 0).sum() == 100 * 100 - few
    assert label.remarks == (BLURRED,)
    colours.reshape(-1, 3)[few] = STRANGE
    save(colours, path)
    with pytest.raises(DataError, match=r"colour 9 99 199 in 51 pixels, .* 0\.5% of its pixels have such colours"):
        labels.read(path, (100, 100))


def test_a_number_of_no_class_is_never_void(path):
    """Blurred colours are known from copies of CamVid; a strange number is a mistake of the table."""
    drawn = np.zeros((HEIGHT, WIDTH), np.uint8)
    drawn[0, 0] = 77
    assert "holds the value 77" in refused(save(drawn, path))


def test_255_without_a_line_is_told_the_line(tmp_path):
    root = write_folder(tmp_path, {"town/1": draw(2)})
    (root / "classes.csv").write_text("label,name,red,green,blue\n0,Road,128,64,128\n1,Car,64,0,128\n")
    drawn = draw(2).label
    drawn[0, 0] = 255
    save(drawn, root / "labels/train/town/1.png")
    with pytest.raises(DataError, match=r"add a line 255,void,0,0,0 to .*classes\.csv if 255 is void"):
        list(Folder(root).scenes("train"))
