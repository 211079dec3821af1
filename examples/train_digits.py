"""Train a classifier of handwritten digits by gradient.

Shows a small convolutional network of equinox, trained on the 1797 images of 8 x 8
pixels that scikit-learn bundles, with minibatches drawn inside the compiled run. Needs
scikit-learn: `pip install "realax[examples]"`. Takes some 20 seconds on two cores.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, PRNGKeyArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import realax as rx


STEPS, BATCH = 800, 64


class Classifier(eqx.Module):
    """Two convolutions and a linear layer, from one image to ten logits."""

    first: eqx.nn.Conv2d
    second: eqx.nn.Conv2d
    last: eqx.nn.Linear

    def __init__(self, key: PRNGKeyArray):
        first, second, last = jr.split(key, 3)
        self.first = eqx.nn.Conv2d(1, 16, 3, padding=1, key=first)
        self.second = eqx.nn.Conv2d(16, 32, 3, stride=2, padding=1, key=second)
        self.last = eqx.nn.Linear(512, 10, key=last)

    def __call__(self, image: Array) -> Array:
        x = jax.nn.relu(self.first(image[None]))
        return self.last(jax.nn.relu(self.second(x)).ravel())


def loss_fn(
    model: Classifier, key: PRNGKeyArray, data: tuple[Array, Array]
) -> tuple[Array, dict[str, Any]]:
    images, labels = data
    # A slightly shifted copy is another image of the same digit.
    shifts = jr.randint(key, (len(images), 2), -1, 2)
    images = jax.vmap(lambda image, by: jnp.roll(image, by, (0, 1)))(images, shifts)
    logits = jax.vmap(model)(images)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean(), {"accuracy": (logits.argmax(-1) == labels).mean()}


def main() -> None:
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8).astype("float32") / 16
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels, test_size=0.25, random_state=0, stratify=labels
    )
    trainer = rx.OptaxTrainer(
        epochs=STEPS,
        optimizer="adamw",
        initializer=Classifier,
        loss_fn=rx.Minibatch(loss_fn, BATCH),
        learning_rate=optax.cosine_decay_schedule(1e-2, STEPS),
        progress_bar=True,
    )
    state, data = trainer.init_and_train(jr.key(0), (train_x, train_y))
    curve = data["metrics"]["eval_data"]["accuracy"].reshape(5, -1).mean(1)
    print("accuracy while training:", " ".join(f"{value:.3f}" for value in curve))
    logits = jax.vmap(trainer.params(state))(test_x)
    print(
        f"{len(test_y)} test images: {(logits.argmax(-1) == test_y).mean():.1%} right"
    )


if __name__ == "__main__":
    main()
