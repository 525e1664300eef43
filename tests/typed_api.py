"""What a type checker knows of the public names: launch/check reads it, nothing runs it.

An ignored mistake that is none any more is an error there: a `run(**Any)` would be found out.
"""

import numpy as np

import fedsim

result = fedsim.run(algo="admm", cars=4, rounds=3, lr=0.1)
score: float = result.miou
labels: list[np.ndarray] = fedsim.load("runs/admm").labels([])
loaded = fedsim.run(**fedsim.read_settings("preset.toml"))

fedsim.run(cars="four")  # type: ignore[arg-type]
fedsim.run(carz=4)  # type: ignore[call-arg]
name: str = result.miou  # type: ignore[assignment]
