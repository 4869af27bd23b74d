"""Draw the loss curves recorded in results.json to losses.png."""

import json

import matplotlib
from common import HERE, RESULTS

matplotlib.use("Agg")
import matplotlib.pyplot as plt

TITLES = {"vae": "autoencoder: L1 + square error", "denoiser": "denoiser: weighted error of the noise"}


def main() -> None:
    results = json.loads(RESULTS.read_text())
    figure, axes = plt.subplots(1, len(TITLES), figsize=(10, 3.4), layout="constrained")
    for axis, (section, title) in zip(axes, TITLES.items()):
        losses, stride = results[section]["loss"], results[section]["loss_every"]
        axis.plot([(i + 0.5) * stride for i in range(len(losses))], losses, linewidth=1.2, color="#2a62c9")
        axis.set(title=title, xlabel="step", yscale="log")
        axis.grid(which="both", alpha=0.25)
    figure.savefig(HERE / "losses.png", dpi=80)


if __name__ == "__main__":
    main()
