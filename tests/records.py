"""Records of made-up runs, as metrics.jsonl has them."""

from fedsim.classes import CAMVID_11


def make_records(rounds: int, cars: int, chosen=None, algo="admm", evaluate_every=1) -> list[dict]:
    """Round 0 to `rounds`; chosen(round) -> the cars taking part, all unless told."""
    records = []
    pictures = steps = 0
    for number in range(rounds + 1):
        present = [] if number == 0 else (chosen(number) if chosen else range(cars))
        entries = [
            {"car": car, "name": f"town-{car}", "images": 96 + car, "steps": 24,
             "loss": 2.3 / (1 + 0.3 * number) + 0.05 * ((car * 7 + number) % 5), "drift": 1.5 + car / 10,
             "gradient_norm": 0.6, "weight_norm": 20.0 + car, "train_miou": 0.3, "pictures_per_second": 50.0,
             "dual_norm": 0.2}
            for car in present
        ]
        pictures += 96 * len(entries)
        steps += 24 * bool(entries)
        miou = 0.45 * (1 - 0.75**number) + 0.03
        iou = {name: round(miou * (1 + (index % 4) / 10), 4) for index, name in enumerate(CAMVID_11.names)}
        record = {
            "round": number, "algo": algo, "lr": 0.3,
            "global": {"loss": 2.4 / (1 + 0.35 * number), "miou": miou, "pixel_accuracy": miou + 0.4,
                       "class_iou": iou | {"Pole": None}},
            "cars": entries, "theta_norm": 20.0, "step_norm": 1.0, "pictures_per_second": 90.0,
            "primal_residual": 1.8, "dual_residual": 0.4, "mean_dual_norm": 0.05, "rho": 0.03,
            "pictures": pictures, "sequential_steps": steps,
            "bytes_up": 5_000_000 * len(entries), "bytes_down": 2_500_000 * len(entries),
            "seconds": {"local": 4.1, "combine": 0.1, "evaluate": 0.9, "total": 5.2}, "theta_sha256": "ab",
        }
        if number % evaluate_every:
            record["global"] = None
        records.append(record)
    return records


def make_local_records(rounds: int, cars: int) -> list[dict]:
    """A run whose cars never communicate."""
    records = make_records(rounds, cars, algo="local")
    for record in records:
        for key in ("primal_residual", "dual_residual", "mean_dual_norm", "rho"):
            del record[key]
        for entry in record["cars"]:
            del entry["dual_norm"]
            entry.update(miou=0.3 + entry["car"] / 100, own_loss=0.4)
        record["worst"] = {"car": 1, "name": "town-1", "miou": record["global"]["miou"] * 0.8}
    return records
