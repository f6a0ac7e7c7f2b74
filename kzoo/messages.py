"""One-line error messages that name the fault and the remedy."""

import difflib
from collections.abc import Iterable


def unknown_name(kind: str, got: object, valid: Iterable[str]) -> str:
    """Says that `got` is not a known `kind`, with the nearest valid name and the whole list.

    Example:
        >>> unknown_name("backbone", "mobilnet", ["mobilenet", "vgg16"])
        "Unknown backbone 'mobilnet'. Did you mean 'mobilenet'? Valid: mobilenet, vgg16."
    """
    valid = sorted(valid)
    near = difflib.get_close_matches(str(got), valid, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"Unknown {kind} {got!r}.{hint} Valid: {', '.join(valid)}."


def some_of(names: Iterable[object], most: int = 8) -> str:
    """The first names, for a line of text: "a, b, c, ..." """
    names = list(map(str, names))
    return ", ".join(names[:most] + ["..."] * (len(names) > most))


def counted(number: int, one: str, many: str | None = None) -> str:
    """ "1 image", "2 images", "2 boxes" by `many`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def require_unique(names: Iterable[str], where: object) -> None:
    """Raises ValueError for a name that stands twice among the names of classes that `where` gives."""
    seen: dict[str, int] = {}
    for place, name in enumerate(names, start=1):
        if name in seen:
            raise ValueError(
                f"{where}: the class {name!r} stands there twice ({seen[name]}. and {place}.). Rename one."
            )
        seen[name] = place


def name_file(error: OSError, path: object) -> None:
    """Puts the file's name into an error that came without one: a full disk does not say which file."""
    if error.errno and not error.filename:
        error.filename = str(path)


def missing_package(package: str, extra: str, purpose: str) -> str:
    """Says which extra to install when an optional package is missing."""
    return f"{purpose} needs the package {package!r}: pip install 'kzoo[{extra}]'."
