"""HTML in small pieces: everything that comes from outside is escaped here, images are embedded."""

import base64
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

_STYLE = Path(__file__).with_name("style.css")
_MEDIA = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}


def escape(value: object) -> str:
    """Any value as text that HTML shows as it is."""
    return html.escape(str(value), quote=True)


def number(value: object) -> str:
    """A cell's text: floats with a sensible number of digits, missing values as a dash."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return "\N{EN DASH}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if abs(value) < 1e6 and value == int(value):
            return str(int(value))
        return f"{value:.4g}" if abs(value) < 1e-3 or abs(value) >= 1e4 else f"{value:.4f}".rstrip("0")
    return str(value)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], digits: int | None = None) -> str:
    """A table; columns of numbers are set right-aligned, floats with so many digits where given."""

    def text(value: object) -> str:
        return f"{value:.{digits}f}" if digits is not None and isinstance(value, float) else number(value)

    rows = [list(row) for row in rows]
    numeric = [
        any(_is_number(row[i]) for row in rows) and all(_is_number(row[i]) or row[i] in (None, "") for row in rows)
        for i in range(len(columns))
    ]
    mark = [' class="number"' if right else "" for right in numeric]
    head = "".join(f"<th{m}>{escape(name)}</th>" for name, m in zip(columns, mark, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{m}>{escape(text(v))}</td>" for v, m in zip(row, mark, strict=True)) + "</tr>\n"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def pairs(values: Mapping[str, object]) -> str:
    """A table of names and values."""
    return table(("setting", "value"), [(name, number(value)) for name, value in values.items()])


def tiles(values: Mapping[str, object]) -> str:
    """The figures to see first, large; missing ones are left out."""
    shown = [(name, value) for name, value in values.items() if value not in (None, "")]
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile"><b>{escape(number(v))}</b><span>{escape(name)}</span></div>\n' for name, v in shown
        )
        + "</div>"
    )


def image(path: Path, caption: str) -> str:
    """An embedded picture, or nothing where there is no such file."""
    media = _MEDIA.get(path.suffix.lower())
    if media is None or not path.is_file():
        return ""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return (
        f'<figure><img alt="{escape(caption)}" src="data:{media};base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{escape(kind)}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def page(title: str, subtitle: str, head: str, sections: Sequence[tuple[str, str]], footer: str) -> str:
    """The whole document. `head` and the bodies of the sections are HTML, all other arguments plain text."""
    links = "".join(f'<a href="#s{i}">{escape(name)}</a>' for i, (name, _) in enumerate(sections))
    body = "".join(f'<h2 id="s{i}">{escape(name)}</h2>\n{text}\n' for i, (name, text) in enumerate(sections))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE.read_text(encoding='utf-8')}</style></head>\n<body><main>"
        f'<h1>{escape(title)}</h1><p class="soft">{escape(subtitle)}</p>{head}<nav>{links}</nav>\n{body}'
        f"<footer>{escape(footer)}</footer></main></body></html>\n"
    )
