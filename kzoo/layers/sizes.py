"""Heights and widths of feature maps, where a graph knows them and where it does not."""

from keras import ops

from kzoo.types import Tensor


def known_sizes(x: Tensor) -> tuple:
    """Height, width and channels of a map (B, H, W, C): numbers where the graph knows them, tensors elsewhere."""
    return tuple(
        static if static is not None else dynamic for static, dynamic in zip(x.shape[1:], ops.shape(x)[1:], strict=True)
    )


def require_sizes(name: str, *shapes: tuple) -> None:
    """Raises ValueError for the shape (B, H, W, C) of a map whose height or width only the next image will tell."""
    for shape in shapes:
        if None in tuple(shape[1:3]):
            raise ValueError(
                f"{name}: the height and width of its feature maps have to be fixed. Received: {tuple(shape)}. Give "
                "the network's input a size, as keras.Input((300, 300, 3))."
            )
