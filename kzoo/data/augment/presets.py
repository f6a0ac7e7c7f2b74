"""What a preset's name, or a list of names, asks for: alike for boxes and masks."""

from collections.abc import Mapping, Sequence

from kzoo.messages import unknown_name


def asked_for(
    augment: bool | str | Sequence[str] | None,
    default: str,
    presets: Mapping[str, Sequence[str]],
    known: Sequence[str],
    what: str = "augmentation",
) -> tuple[str, ...]:
    """The augmentations that `augment` means, in the order of `known`.

    Args:
        augment: False, None or "none": nothing; True: the preset `default`; else a preset's or augmentation's name, or
            a list of them.
        presets: names by preset. known: all names, in the order of their application.
        what: a word for them, for the error.

    Raises:
        ValueError: for an unknown name, naming the nearest known one.
    """
    if augment is None or isinstance(augment, bool):
        augment = default if augment else "none"
    asked = set()
    for name in (augment,) if isinstance(augment, str) else augment:
        if name not in presets and name not in known:
            raise ValueError(unknown_name(what, name, {*presets, *known}))
        asked.update(presets.get(name, (name,)))
    return tuple(name for name in known if name in asked)
