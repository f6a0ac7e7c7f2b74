"""What every network of the zoo has, and every detector: raw heads for training, decoded detections for all else."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
from keras import ops

from kzoo import images as image_ops
from kzoo.messages import unknown_name
from kzoo.models import given
from kzoo.models.running import replicas, resolve_jit_compile, run
from kzoo.types import Tensor


class Network(keras.Model):
    """A functional graph from images to raw heads, with the paper's targets and loss inside.

    A subclass builds its graph in `__init__`, and defines

    - `raw_losses(targets, raw)` -> {name: scalar} for each of `loss_names`: targets + loss,
    - `decode(raw)` -> what users want to have, as a dict,
    - `_backbone` and `_arguments`: the backbone and the other arguments of its constructor, for `get_config`.

    Attributes:
        image_size: (height, width) that the network sees.
        num_classes: how many classes there are.
        class_names: what the labels 0..num_classes-1 mean, or None.
        extra_targets: what training needs beside boxes and labels: "proposals" (Fast R-CNN).
    """

    extra_targets: tuple[str, ...] = ()
    loss_names: tuple[str, ...] = ()
    _backbone: str | keras.Model | None = None

    def __init__(self, *args, dtype=None, **kwargs):
        if dtype is not None:  # Keras would drop it without a word
            raise ValueError(
                f"The layers have the global policy: call keras.config.set_dtype_policy({dtype!r}) before."
            )
        super().__init__(*args, **kwargs)

    def _finish(self, image_size, num_classes: int, class_names: Sequence[str] | None) -> None:
        """Called at the end of a subclass's `__init__`, when the graph stands."""
        if class_names is not None and len(class_names) != num_classes:
            raise ValueError(
                f"num_classes is {num_classes}, but class_names has {len(class_names)} names: {class_names}."
            )
        self.image_size = tuple(image_size)
        self.num_classes = num_classes
        self.class_names = list(class_names) if class_names is not None else None
        self.loss_trackers = [keras.metrics.Mean(name=name) for name in self.loss_names]
        self._trainable_as_made = self._trainable_layers()

    def _trainable_layers(self) -> list[bool]:
        return [layer.trainable for layer in self._flatten_layers()]

    def get_config(self):
        """The constructor's arguments: `_arguments` of the subclass, the backbone, whole where it is a model.

        And "trainable_layers", of all layers in turn, where some were frozen or freed since it was made.
        """
        own, changed = isinstance(self._backbone, keras.Model), self._trainable_layers()
        backbone = keras.saving.serialize_keras_object(self._backbone) if own else self._backbone
        return {
            "num_classes": self.num_classes,
            **({} if backbone is None else {"backbone": backbone}),
            **self._arguments,
            "class_names": self.class_names,
            "name": self.name,
            **({} if changed == self._trainable_as_made else {"trainable_layers": changed}),
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        if isinstance(config.get("backbone"), dict):
            config["backbone"] = keras.saving.deserialize_keras_object(config["backbone"])
        trainable = config.pop("trainable_layers", None)
        model = cls(**config)
        if trainable is not None:
            # Outer layers come before their inner ones, which they would free or freeze.
            for layer, value in zip(model._flatten_layers(), trainable, strict=True):
                layer.trainable = value
        return model

    def compile(self, optimizer="adam", loss=None, *, jit_compile="auto", **kwargs):
        """As in Keras; the loss is the paper's, and "auto" means no XLA on a TensorFlow CPU, where it is slower."""
        if loss is not None:
            raise ValueError(
                f"{self.name} has its paper's loss inside: leave loss={loss!r} out, or define raw_losses in a subclass."
            )
        super().compile(optimizer=optimizer, jit_compile=resolve_jit_compile(jit_compile), **kwargs)
        self._asked_jit_compile = jit_compile

    def get_compile_config(self):
        """As in Keras; "auto" stays so, for a machine with other devices."""
        config = super().get_compile_config()
        return config and config | {"jit_compile": self._asked_jit_compile}

    def compile_from_config(self, config):
        """Compiles a loaded model as it was saved; Keras leaves this to whoever overrides `compile`."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def save(self, filepath, overwrite=True, zipped=None, **kwargs):
        """As in Keras, but missing folders are made: a mistyped one would cost the training that ends here."""
        if "://" not in str(filepath):  # else a remote place, Keras' own affair
            Path(filepath).parent.mkdir(parents=True, exist_ok=True)
        super().save(filepath, overwrite=overwrite, zipped=zipped, **kwargs)

    def fit(self, x=None, y=None, *args, **kwargs):
        """As in Keras; arrays are looked at before the first step."""
        self._check_arrays(x, y, kwargs.get("sample_weight"))
        return super().fit(x, y, *args, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """As in Keras; arrays are looked at before the first step."""
        self._check_arrays(x, y, kwargs.get("sample_weight"))
        return super().evaluate(x, y, *args, **kwargs)

    def _check_arrays(self, x, y, sample_weight) -> None:
        """Raises ValueError for arrays that the loss cannot be of; data sets are looked at in the first step."""
        if isinstance(x, np.ndarray):
            self._check_targets(x, y)

    def _assert_targets(self, targets) -> None:
        """Asserts in the graph that a batch can be learned from; subclasses do."""

    def _check_targets(self, images, targets) -> None:
        """Raises ValueError for images of another size than the network's; subclasses look at the targets, too."""
        shape, wanted = tuple(images.shape), self.input_shape
        fits = len(shape) == 4 and all(w in (None, h) or h is None for h, w in zip(shape[1:], wanted[1:], strict=True))
        if not fits:
            raise ValueError(f"{self.name} takes images (B, {', '.join(map(str, wanted[1:]))}). Received: {shape}.")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        self._check_targets(x, y)
        self._assert_targets(y)
        parts = self.raw_losses(self._weighted(y, sample_weight), y_pred)
        count = ops.shape(x)[0]  # as Keras weighs the whole loss: the last batch may be smaller, or none
        for tracker in self.loss_trackers:
            tracker.update_state(parts[tracker.name], sample_weight=count)
        total = sum(parts.values())
        return sum(self.losses, start=total) / replicas()  # with regularisation, where layers have it

    def _weighted(self, targets, sample_weight):
        """The targets with Keras' `sample_weight` in them, where the loss has a place for it."""
        if sample_weight is not None:
            raise ValueError("Detectors take no sample_weight: the papers' losses weigh boxes, not images.")
        return targets

    def raw_losses(self, targets: Mapping, raw: Mapping | Tensor) -> dict:
        """The parts of the loss, scalars in float32, by name."""
        raise NotImplementedError(f"{type(self).__name__} must define raw_losses.")

    def decode(self, raw: Mapping | Tensor) -> dict:
        """What users want to have, from raw heads."""
        raise NotImplementedError(f"{type(self).__name__} must define decode.")

    def inference_model(self) -> keras.Model:
        """The whole system as one functional model: "image" (B, H, W, 3) pixels -> what `decode` returns."""
        image = keras.Input((*self.image_size, 3), dtype="float32", name="image")
        model = keras.Model(image, self.decode(self(image)), name=f"{self.name}_inference")
        model.compile(jit_compile=resolve_jit_compile("auto"))
        return model

    def infer(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """What `inference_model` says of images (B, *image_size, 3), as NumPy arrays."""
        graph = self._graph("images", self.inference_model)
        if len(images) == 0:
            empty = {key: ops.zeros((0, *x.shape[1:]), x.dtype) for key, x in graph.output.items()}
            return {key: ops.convert_to_numpy(x) for key, x in empty.items()}
        return run(graph, images.astype("float32"), len(images))

    def _graph(self, key: object, make: Callable[[], keras.Model]) -> keras.Model:
        """A graph around this network, made once; kept out of Keras' tracking, which would count the network twice."""
        if "_graphs" not in self.__dict__:
            object.__setattr__(self, "_graphs", {})
        if key not in self._graphs:
            self._graphs[key] = make()
        return self._graphs[key]

    def _forget_graphs(self) -> None:
        object.__setattr__(self, "_graphs", {})


class Detector(Network):
    """A network that finds objects: `detect` gives detections as NumPy arrays.

    `fit` and `evaluate` take batches of `(images, {"boxes", "labels"})`; `decode` gives the detections dict, NMS
    included. `num_classes` is without background.
    """

    loss_names: tuple[str, ...] = ("class_loss", "box_loss")

    def _check_arrays(self, x, y, sample_weight) -> None:
        super()._check_arrays(x, y, sample_weight)
        self._weighted(y, sample_weight)
        if isinstance(x, np.ndarray):
            given.require_detections(y, self.num_classes)

    def _check_targets(self, images, targets) -> None:
        super()._check_targets(images, targets)
        given.require_detection_shapes(self.name, targets, ("boxes", "labels", *self.extra_targets))

    def _assert_targets(self, targets) -> None:
        given.assert_detections(targets, self.num_classes)

    def set_thresholds(
        self,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> None:
        """Changes what the final suppression keeps, in `detect` and in every file written from now on.

        Args:
            score_threshold, iou_threshold, max_detections: as in the constructor; None leaves one as it is.

        Raises:
            ValueError: for a value that cannot be, or a detector without suppression.
        """
        asked = {"score_threshold": score_threshold, "iou_threshold": iou_threshold, "max_detections": max_detections}
        asked = {key: value for key, value in asked.items() if value is not None}
        for key in asked:
            if key not in self._arguments:
                raise ValueError(unknown_name(f"threshold of {self.name}", key, asked.keys() & self._arguments.keys()))
        suppression = getattr(self, "nms", None)
        if suppression is not None:
            checked = type(suppression)(**suppression.get_config() | asked)
            for key in asked:
                setattr(suppression, key, getattr(checked, key))
        self._arguments = {**self._arguments, **asked}
        self._forget_graphs()

    def detect(self, images: np.ndarray, batch_size: int = 32) -> dict[str, np.ndarray]:
        """Finds objects.

        Args:
            images: (B, H, W, 3) RGB 0..255 of any integer or float dtype. Images of another size than `image_size` are
                resized, and the boxes moved back.
            batch_size: how many images go through the network at once.

        Returns:
            {"boxes": (B, K, 4) xyxy pixels of the given images, "labels": (B, K) -1 where empty, "scores": (B, K),
            "num_detections": (B,)}, best first.
        """
        images, scale = self._fitted(images)
        starts = range(0, max(len(images), 1), batch_size)
        parts = [self.infer(images[start : start + batch_size]) for start in starts]
        found = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        found["boxes"] = found["boxes"] * scale
        return found

    def _fitted(self, images) -> tuple[np.ndarray, np.ndarray]:
        """Images in the network's size, and what brings its boxes back to their own."""
        images = image_ops.as_batch(images)
        height, width = self.image_size
        scale = np.array([images.shape[2] / width, images.shape[1] / height] * 2, "float32")
        images = np.stack([image_ops.resize(image, self.image_size) for image in images]) if len(images) else images
        return images, scale


def checked_size(image_size: int | Sequence[int], num_classes: int, background: bool = False) -> tuple[int, int]:
    """(height, width) of one number or two.

    Args:
        background: is it one of the classes?

    Raises:
        ValueError: for a size below 1, or a number of classes that leaves nothing to tell apart.
    """
    size = (image_size, image_size) if np.ndim(image_size) == 0 else tuple(image_size)
    if len(size) != 2 or min(size) < 1 or any(int(side) != side for side in size):
        raise ValueError(f"image_size must be one number of pixels or (height, width). Received: {image_size}.")
    if background and not 2 <= num_classes <= 255:
        raise ValueError(f"num_classes must be 2 to 255 (background is one of them). Received: {num_classes}.")
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1 (background is not counted). Received: {num_classes}.")
    return int(size[0]), int(size[1])


def fine_tuning(
    pretrained: bool, frozen_stages: int | None, frozen_batch_norm: bool | None, usual: int = 2
) -> tuple[int, bool]:
    """The two settings of `kzoo.backbones.create`; None: C1 to C`usual` and batch norm stay if `pretrained`."""
    return (
        (usual if pretrained else 0) if frozen_stages is None else frozen_stages,
        pretrained if frozen_batch_norm is None else frozen_batch_norm,
    )
