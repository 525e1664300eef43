"""The declarations of settings: for each of them its type, its default, its theme and its help."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedsim.aggregation import AGGREGATORS
from fedsim.algorithms.server_optimizers import SERVER_OPTIMIZERS
from fedsim.data import AUGMENTATIONS
from fedsim.data.datasets import SOURCES
from fedsim.data.partition import HELD_OUT, PARTITIONS
from fedsim.losses import LOSSES
from fedsim.options import options_of
from fedsim.settings import registry

AUX_WEIGHT = 0.4  # of auxiliary logits, as in PSPNet (Zhao et al. 2017, arXiv:1612.01105, §5.2)

LOSS_OPTIONS = ", ".join(f"{option} of {name} ({one.shown_default})" for name, loss in LOSSES.items()
                         for option, one in options_of(loss).items())


def setting(theme: str, default: Any, text: str, choices: tuple[str, ...] = (), metavar: str = "",
            suggests: tuple[str, ...] = ()) -> Any:
    """Make a setting, which is an option of the command line with its theme and its help there.

    choices: the only words that it takes. suggests: words that a shell completes, if it takes others too. metavar: what
    the help shows in the place of a value.
    """
    return field(default=default, metadata={"theme": theme, "help": text, "choices": choices, "metavar": metavar,
                                            "suggests": suggests})


@dataclass(frozen=True, kw_only=True)
class Declared:
    """The settings that every method has, with their defaults. `CommonSettings` checks them."""

    algo: str = setting("Federation", "admm",
        "The algorithm, by name, or one of your own, as mypackage.mymodule:MyAlgorithm. central trains one model on "
        "the scenes of all cars; central-wide takes no more steps for it, one after another, than a federation; with "
        "local, cars never communicate. `fedsim algorithms` lists them all.",
        suggests=registry.NAMES, metavar="|".join((*registry.NAMES, "MODULE:CLASS")))
    cars: int | None = setting("Federation", None,
        "Number of cars. Default: as many as a partition file has; otherwise 4, or with --hold-out-drive the number of "
        "other drives if that is smaller, or the number of ranks if that is larger.")
    rounds: int = setting("Federation", 16, "Number of rounds.")
    stop_at: float | None = setting("Federation", None,
        "mIoU at which the run ends before its last round. Default: it plays all rounds.", metavar="MIOU")
    patience: int | None = setting("Federation", None,
        "Scored rounds without a higher mIoU after which the run ends before its last round. Default: it plays all "
        "rounds.")
    keep_best: bool = setting("Federation", False,
        "Whether to keep the model of the scored round with the highest mIoU too, as checkpoints/best.safetensors.")
    participation: float = setting("Federation", 1.0,
        "Share of the cars that take part in a round, above 0 and at most 1.")
    car_failures: float = setting("Federation", 0.0,
        "Probability that a car of a round downloads and trains, but never answers, at least 0 and below 1.")
    weighting: str | None = setting("Federation", None,
        "Weight of a car in every mean: its number of images, or the same for all. Default: as in the algorithm's "
        "paper; `fedsim algorithms` tells which.", choices=("images", "uniform"))
    batchnorm: str | None = setting("Federation", None,
        "What cars share of BatchNorm layers. recalibrate measures the statistics again with the new parameters on "
        "each car's scenes; pooled combines the cars' running statistics; average averages them plainly; with "
        "local-statistics (SiloBN) each car keeps its statistics; with local (FedBN) it keeps weights and biases too. "
        "Default: recalibrate.", choices=("recalibrate", "pooled", "average", "local-statistics", "local"))
    average_weights: str | None = setting("Federation", None,
        "Average of the global model over the rounds, scored and saved beside it: ema:D is D times the average before, "
        "and 1 - D times the new model; swa:S is the mean of the rounds after that share of them. Default: no average.",
        metavar="ema:D|swa:S")
    seed: int = setting("Federation", 0, "Seed of every random draw.")

    server_optimizer: str | None = setting("Algorithm", None,
        "Server optimiser that takes the place of the plain server step; with avg, prox, nova and scaffold. Default: "
        "the plain step.", choices=tuple(SERVER_OPTIMIZERS))
    on_divergence: str = setting("Algorithm", "warn",
        "What to do when the step of theta or the mean dual variable keeps growing: warn once, stop, or rollback, "
        "which undoes the round and halves the learning rate.", choices=("warn", "stop", "rollback"))
    option: Mapping[str, Any] = field(default_factory=dict, hash=False, metadata={
        "theme": "Algorithm", "choices": (), "suggests": (), "metavar": "NAME=VALUE",
        "help": "Option of the algorithm that has no flag of its own, such as an option of your own algorithm; may be "
                "given several times. `fedsim algorithms` lists them."})

    aggregator: str = setting("Robustness", "mean",
        "How contributions are combined. All but mean and geometric-median give every car the same weight.",
        choices=tuple(AGGREGATORS))
    clip_norm: float | None = setting("Robustness", None,
        "Largest norm of a car's move, above 0: a longer move is shortened to it. Default: no limit.")
    attackers: int = setting("Robustness", 0, "Number of cars that send bad updates, drawn once.")
    attack: str | None = setting("Robustness", None,
        "What attackers send: their move, four times as long in the opposite direction; noise ten times as long; the "
        "move ten times as long; or what they learned from flipped labels. Default with --attackers: sign-flip.",
        choices=("sign-flip", "gaussian", "scale", "label-flip"))

    local_epochs: str = setting("Local training", "1",
        "Local epochs of a car in a round; or LEAST:MOST: then each car draws its own number in every round; or a "
        "number such as 0.25: then the next round goes on in the order of scenes where this one ends.",
        metavar="N|LEAST:MOST|X.Y")
    local_steps: int | None = setting("Local training", None,
        "Local steps of each car in a round, in place of --local-epochs; the next round goes on in the order of "
        "scenes where this one ends. To see as many pictures, central takes as many for each car, and central-wide "
        "takes larger ones. Default: by epochs.")
    batch_size: int = setting("Local training", 2, "Scenes that the network computes at once: a batch.")
    accumulate: int = setting("Local training", 1,
        "Batches in a local step. A step is then one of so many times the scenes, and takes no more memory.")
    optimizer: str = setting("Local training", "sgd",
        "Local optimiser; --momentum-across-rounds says what it starts a round with. adamw is adam whose weight decay "
        "is no part of the gradient.", choices=("sgd", "adam", "adamw"))
    lr: float = setting("Local training", 0.2, "Learning rate of the first round.")
    lr_schedule: str = setting("Local training", "cosine",
        "How the learning rate falls over the rounds: along half a cosine, as (1 - share of the rounds)^0.9, to a "
        "tenth after half and again after three quarters of them, or not at all.",
        choices=("cosine", "poly", "steps", "constant"))
    warmup: int = setting("Local training", 0,
        "Rounds at the beginning with a smaller learning rate, which rises by equal steps.")
    lr_floor: float = setting("Local training", 0.0, "Share of the learning rate that it falls to.")
    momentum: float = setting("Local training", 0.9, "Momentum of sgd, at least 0 and below 1.")
    nesterov: bool = setting("Local training", False,
        "Whether sgd steps along the gradient and the velocity after it, which is Nesterov's momentum.")
    momentum_across_rounds: str = setting("Local training", "none",
        "What momentum the local optimiser starts a round with: none starts anew; average combines the momenta of the "
        "round before and sends the result with theta; with own, each car goes on with its own; step takes the latest "
        "move of theta, per step (sgd only). Short rounds need one of these.",
        choices=("none", "average", "own", "step"))
    weight_decay: float = setting("Local training", 0.0,
        "Weight decay, of all parameters but biases and those of normalisation layers.")
    clip_gradient: float | None = setting("Local training", None,
        "Norm above which the gradient of a step is shortened to it. Default: no bound.")
    loss: str = setting("Local training", "cross-entropy",
        "Loss of training: cross-entropy, ohem, focal, dice, lovasz, a sum such as cross-entropy+0.5*dice, or one of "
        "your own, as mypackage.mymodule:my_loss. The validation loss is cross entropy with any of them.",
        suggests=tuple(LOSSES), metavar="NAME|MODULE:NAME|X*NAME+...")
    loss_option: Mapping[str, Any] = field(default_factory=dict, hash=False, metadata={
        "theme": "Local training", "choices": (), "suggests": (), "metavar": "NAME=VALUE",
        "help": f"Option of the loss: {LOSS_OPTIONS}, or an argument of your own; may be given several times."})
    precision: str | None = setting("Local training", None,
        "Numbers that the network computes with in training: float32, or 16 bits in convolutions and products, bf16 or "
        "fp16. All that is kept, sent and scored is float32. Default: float32.",
        choices=("float32", "bf16", "fp16"))
    compile: bool = setting("Local training", False,
        "Whether the network is compiled for training by torch.compile, which takes from seconds to minutes at the "
        "start. The run says after how many steps that pays.")
    label_smoothing: float = setting("Local training", 0.0,
        "Share of a label that is spread over all classes in training, at least 0 and below 1.")
    augment: str = setting("Local training", "flip",
        "How scenes are varied in training: flip mirrors a scene with probability 1/2; standard also changes gamma, "
        "saturation, scale and crop; perturb also applies a driving perturbation with probability 1/2.",
        choices=tuple(AUGMENTATIONS))
    crop: str | None = setting("Local training", None,
        "Size in pixels of the part of a picture that is trained on, drawn anew each time; scores are of whole "
        "pictures. Default: whole pictures.", metavar="WIDTHxHEIGHT")
    scale_range: str | None = setting("Local training", None,
        "Smallest and largest size to which a picture is scaled in training, e.g. 0.5,2. Default: 1, and 0.75,1.5 with "
        "--augment standard.", metavar="LEAST,MOST")
    colour_jitter: float | None = setting("Local training", None,
        "How much gamma and saturation change in training: between 1 / (1 + X) and 1 + X. Default: 0, and 0.5 with "
        "--augment standard.")
    class_weights: str | None = setting("Local training", None,
        "Class weights of the loss, from the class frequencies over all cars. Default: sqrt-median-frequency, or none "
        "if the loss is your own and has no argument called weight.",
        choices=("none", "median-frequency", "sqrt-median-frequency"))

    model: str = setting("Model", "segnet-small",
        "Network: segnet-small, segnet-basic, segnet, ddrnet-small, fast-scnn, torchvision:NAME, or one of your own, "
        "as mypackage.mymodule:MyNetwork. `fedsim models` tells what they cost.",
        suggests=("segnet-small", "segnet-basic", "segnet", "ddrnet-small", "fast-scnn"),
        metavar="NAME|MODULE:NAME")
    model_option: Mapping[str, Any] = field(default_factory=dict, hash=False, metadata={
        "theme": "Model", "choices": (), "suggests": (), "metavar": "NAME=VALUE",
        "help": "Argument of a network of your own or of torchvision; may be given several times. A value is text, a "
                "number, a list, true, false or none."})
    aux_weight: float | None = setting("Model", None,
        "Weight of the loss of each of the auxiliary logits that a network may return in training, as ddrnet-small "
        f"does. Default: {AUX_WEIGHT}.")
    init: str | None = setting("Model", None,
        "Weights to start from: the directory of a run, or a file of weights, .safetensors or a PyTorch state "
        "dictionary. Default: fresh ones, drawn from the seed.", metavar="RUN|FILE")
    freeze: tuple[str, ...] = field(default=(), metadata={
        "theme": "Model", "choices": (), "suggests": (), "metavar": "PREFIX",
        "help": "Part of the network, by the beginning of its name, that stays as it is and is not sent; may be given "
                "several times."})
    width: int | None = setting("Model", None,
        "Channels of a SegNet's first stage; the other stages change in proportion.")
    norm: str = setting("Model", "batch",
        "Normalisation layers: batch, or group, which needs no statistics of the batch.", choices=("batch", "group"))

    data: str = setting("Data", "streets",
        "Data set: streets is drawn by fedsim; camvid is read in any of three layouts; a drive of cityscapes is a "
        "city, a drive of cityscapes-sequences is a recorded sequence; folder is your own.", choices=tuple(SOURCES))
    data_root: str | None = setting("Data", None, "Folder of the data set. Default: data/NAME, or "
                                    "NAME in the folder FEDSIM_DATA.")
    classes: int | None = setting("Data", None,
        "Number of classes: 32 trains on all original classes of camvid, if the layout has them. Default: 11.")
    image_size: str | None = setting("Data", None,
        "Size in pixels of the pictures that the network sees; scores are at the labels' own size. Default: streets "
        "80x60, camvid 120x90, cityscapes 256x128, folder 120 wide.", metavar="WIDTHxHEIGHT")
    partition: str = setting("Data", "drive",
        "How scenes are dealt to cars: drive gives each car a drive (parts of one if there are more cars than "
        "drives); iid deals at random; with dirichlet a car prefers some classes, with classes it favours a few; "
        "quantity makes sizes follow a power law; condition is drive, with a driving condition for each car; FILE is "
        "a partition file of a run or of `fedsim data inspect`, or a published split: LEAF's JSON, a folder of such "
        "files, or a CSV with a picture and its car in each line.",
        suggests=PARTITIONS, metavar="|".join((*PARTITIONS, "FILE")))
    alpha: float | None = setting("Data", None,
        "Skew of the partition; a smaller value makes cars more unequal. Default: 0.5 for dirichlet, 1 for quantity, "
        "2 for classes (the number of classes that a car favours).")
    hold_out_drive: str | None = setting("Data", None,
        "Drive of the training split that no car trains on, and that the model is scored on. Default: every drive is "
        "trained on.")
    own_test: float | None = setting("Data", None,
        "Share of each stretch of a drive, at its end, that is held out: no car trains on it, and every car is scored "
        "on its own part of it. Default: 0, or what the partition file holds out.", metavar="SHARE")
    eval_split: str | None = setting("Data", None,
        "Split that the model is scored on; held-out is the drive of --hold-out-drive. Default: held-out if there is "
        "such a drive, otherwise val.", choices=("train", "val", "test", HELD_OUT))
    test_scales: str = setting("Data", "1",
        "Scales of the copies of a picture that the network sees when it is scored; the score is of the mean of their "
        "probabilities.", metavar="X,X")
    test_flip: bool = setting("Data", False,
        "Whether the network sees each of these copies mirrored as well.")
    tile: str | None = setting("Data", None,
        "Size in pixels of the largest part of a picture that the network sees at a time when it is scored; larger "
        "pictures are put together from parts that overlap. Default: whole pictures.", metavar="WIDTHxHEIGHT")
    evaluate_every: int = setting("Data", 1, "Rounds between scores; the last round is always scored.")

    out: str | None = setting("Machine", None, "Run directory, new or empty. Default: runs/ALGO-DATA-TIME.")
    device: str = setting("Machine", "auto",
        "Device: auto takes a CUDA device for every rank if there is one, otherwise the CPU.",
        choices=("auto", "cpu", "cuda"))
    backend: str = setting("Machine", "auto",
        "Communication: auto takes NCCL if every rank has a CUDA device of its own, otherwise gloo.",
        choices=("auto", "gloo", "nccl"))
    threads: int | None = setting("Machine", None,
        "CPU threads of a rank. Default: the cores, shared among the ranks of this machine.")
    car_states: str = setting("Machine", "auto",
        "Where cars keep their memory between rounds: in memory, that of the GPU as long as it has room; in "
        "memory-mapped files in the run directory (disk); or auto, which takes disk if main memory is too small.",
        choices=("auto", "memory", "disk"))
    timeout: float = setting("Machine", 600.0,
        "Seconds to wait for another rank before the run stops; more than the busiest rank trains in a round.")
    checkpoint_every: int = setting("Machine", 1, "Rounds between checkpoints; the last round always has one.")
    resume: str | None = setting("Machine", None,
        "Run directory of a run to continue from its latest checkpoint, to the same bits as if it had never stopped; "
        "--rounds may grow. auto continues the run in --out if there is one, and starts it otherwise. Default: a new "
        "run.", metavar="RUN|auto")
