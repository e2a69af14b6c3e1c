"""Bars and curves as SVG files for light and dark pages. Numbers in, markup out; the same numbers, the same bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH = 760
NAMES = 230  # px for the names of bars
BAR, GAP = 18, 6
HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 300, 64, 190, 34, 44  # of a plot of curves
COLOURS = 5  # classes c0 … c4

STYLE = """<style>
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 13px }
.soft { fill: #6e7781 } .grid { stroke: #d0d7de; stroke-width: 1 }
.other { fill: #b6bec8 } .own { fill: #0a6c74 }
.curve { fill: none; stroke-width: 2 }
.c0 { stroke: #0a6c74; fill: #0a6c74 } .c1 { stroke: #bc4c00; fill: #bc4c00 } .c2 { stroke: #6639ba; fill: #6639ba }
.c3 { stroke: #57606a; fill: #57606a } .c4 { stroke: #9a6700; fill: #9a6700 }
text.c0, text.c1, text.c2, text.c3, text.c4 { stroke: none } path.curve { fill: none }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .soft { fill: #8d96a0 } .grid { stroke: #30363d }
  .other { fill: #4b535d } .own { fill: #2aa5ad }
  .c0 { stroke: #2aa5ad; fill: #2aa5ad } .c1 { stroke: #f0883e; fill: #f0883e } .c2 { stroke: #b392f0; fill: #b392f0 }
  .c3 { stroke: #8d96a0; fill: #8d96a0 } .c4 { stroke: #d4a72c; fill: #d4a72c }
}
</style>"""

Group = tuple[str, str, Sequence[tuple[str, float]]]  # title, unit, (name of a side, its rate)
Curves = Mapping[str, Sequence[tuple[float, float]]]


def bars(groups: Sequence[Group], own: str = "textmill") -> str:
    """One group of bars under the other, each to its own scale; sides whose name begins with `own` stand out."""
    y, parts = 8, []
    for title, unit, sides in groups:
        y += 18
        parts.append(f'<text class="title" x="0" y="{y}">{escape(title)}</text>')
        parts.append(f'<text class="soft" x="{WIDTH}" y="{y}" text-anchor="end">{escape(unit)}</text>')
        y += 8
        most = max((rate for _, rate in sides), default=1.0) or 1.0
        for name, rate in sides:
            long = round((WIDTH - NAMES - 80) * rate / most, 1)
            kind, middle = ("own" if name.startswith(own) else "other"), y + BAR - 5
            parts.append(
                f'<text x="{NAMES - 10}" y="{middle}" text-anchor="end">{escape(name)}</text>'
                f'<rect class="{kind}" x="{NAMES}" y="{y}" width="{long}" height="{BAR}" rx="2"/>'
                f'<text x="{NAMES + long + 6}" y="{middle}">{_short(rate)}</text>'
            )
            y += BAR + GAP
        y += 10
    return _svg(y, parts)


def curves(title: str, x_label: str, y_label: str, lines: Curves) -> str:
    """Curves over logarithmic axes, each with its points and its name at its end."""
    points = [point for line in lines.values() for point in line]
    x_low, x_high = _ends([x for x, _ in points])
    y_low, y_high = _ends([y for _, y in points])

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * math.log(x / x_low) / math.log(x_high / x_low)
        up = (HEIGHT - TOP - BOTTOM) * math.log(y / y_low) / math.log(y_high / y_low)
        return round(across, 1), round(HEIGHT - BOTTOM - up, 1)

    parts = [f'<text class="title" x="0" y="18">{escape(title)}</text>']
    for value in _ticks(y_low, y_high):
        _, y = place(x_low, value)
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
        parts.append(
            f'<text class="soft" x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{_short(value)}</text>'
        )
    for value in sorted({x for x, _ in points}):
        x, _ = place(value, y_low)
        parts.append(
            f'<text class="soft" x="{x}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{_short(value)}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="soft" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>'
    )
    parts.append(f'<text class="soft" x="{WIDTH - RIGHT}" y="18" text-anchor="end">{escape(y_label)}</text>')
    taken: list[float] = []
    for index, (name, line) in enumerate(lines.items()):
        spots = [place(x, y) for x, y in line]
        colour = f"c{index % COLOURS}"
        parts.append(
            f'<path class="curve {colour}" d="M{"L".join(f"{x} {y}" for x, y in spots)}"/>'
            + "".join(f'<circle class="{colour}" cx="{x}" cy="{y}" r="3"/>' for x, y in spots)
        )
        x, y = spots[-1]
        while any(abs(y - other) < 14 for other in taken):
            y += 14
        taken.append(y)
        parts.append(f'<text class="{colour}" x="{x + 8}" y="{y + 4}">{escape(name)}</text>')
    return _svg(HEIGHT, parts)


def _svg(height: float, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">'
    )
    return "\n".join([head, STYLE, *parts, "</svg>"]) + "\n"


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """The range of a logarithmic axis; never empty."""
    low, high = min(values), max(values)
    return (low / 1.3, high * 1.3) if low == high else (low * 0.92, high * 1.08)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers (1, 2, 5 times a power of ten) within a range."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high]


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
