"""Line charts as inline SVG: points in, markup out. Colours and fonts are the page's (CSS)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

LEFT, RIGHT, TOP, BOTTOM = 52, 14, 30, 40
MOST_POINTS = 300

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One curve. `style` is its CSS class; `dots` marks every point (few points, each of them worth a look)."""

    name: str
    points: Sequence[Point]
    style: str
    dots: bool = False


@dataclass(frozen=True)
class Level:
    """A dashed horizontal line with its own label."""

    name: str
    y: float
    style: str = "level"


@dataclass(frozen=True)
class Chart:
    """Curves over one x axis."""

    lines: Sequence[Line]
    x_label: str
    y_label: str
    levels: Sequence[Level] = field(default_factory=tuple)
    width: int = 960
    height: int = 320
    from_zero: bool = False

    def svg(self) -> Markup:
        """The chart, with its points in `data-chart` for the page's cross-hair; empty without a finite point."""
        lines = [Line(line.name, thin(finite(line.points)), line.style, line.dots) for line in self.lines]
        lines = [line for line in lines if line.points]
        if not lines:
            return Markup("")
        scale = _Scale(lines, self)
        parts = [*scale.grid(self), *(_level(level, scale) for level in self.levels)]
        parts += [_curve(line, scale) for line in lines]
        data = {
            "box": [LEFT, TOP, self.width - RIGHT, self.height - BOTTOM],
            "lines": [
                {
                    "name": line.name,
                    "style": line.style,
                    "points": [
                        [round(scale.x(x), 1), round(scale.y(y), 1), short(x), number(y)]
                        for x, y in line.points
                    ],
                }
                for line in lines
            ],
            "x": self.x_label,
        }
        label = f"{self.y_label} against {self.x_label}"
        return Markup(
            '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}" data-chart="{}">{}</svg>'
        ).format(self.width, self.height, label, json.dumps(data, ensure_ascii=False), Markup("").join(parts))


class _Scale:
    """Data -> pixels."""

    def __init__(self, lines: Sequence[Line], chart: Chart) -> None:
        xs = [x for line in lines for x, _ in line.points]
        ys = [y for line in lines for _, y in line.points] + [level.y for level in chart.levels]
        self.right = chart.width - RIGHT
        self.first, self.last = min(0.0, *xs), max(xs)
        self.x_ticks = [
            x for x in ticks(self.first, self.last, 3 + chart.width // 240) if x <= self.last * 1.0001
        ]
        self.y_ticks = ticks(0.0 if chart.from_zero else min(ys), max(ys), 5)
        self.bottom = chart.height - BOTTOM

    def x(self, value: float) -> float:
        return LEFT + (value - self.first) / max(self.last - self.first, 1e-12) * (self.right - LEFT)

    def y(self, value: float) -> float:
        first, last = self.y_ticks[0], self.y_ticks[-1]
        return self.bottom - (value - first) / (last - first) * (self.bottom - TOP)

    def grid(self, chart: Chart) -> list[Markup]:
        parts = []
        for value in self.y_ticks:
            y = self.y(value)
            parts.append(Markup('<path class="grid" d="M{} {:.1f}H{}"/>').format(LEFT, y, self.right))
            parts.append(_text(LEFT - 8, y + 4, number(value), "tick", "end"))
        for value in self.x_ticks:
            parts.append(_text(self.x(value), self.bottom + 18, short(value), "tick", "middle"))
        parts.append(_text(self.right, self.bottom + 36, chart.x_label, "axis", "end"))
        parts.append(_text(LEFT, TOP - 14, chart.y_label, "axis", "start"))
        return parts


def _text(x: float, y: float, text: str, style: str, anchor: str) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        style, x, y, anchor, text
    )


def _level(level: Level, scale: _Scale) -> Markup:
    y = scale.y(level.y)
    path = Markup('<path class="{}" d="M{} {:.1f}H{}"/>').format(level.style, LEFT, y, scale.right)
    above = y - 6 if y > TOP + 22 else y + 15
    return path + _text(scale.right - 2, above, level.name, f"{level.style}-label", "end")


def _curve(line: Line, scale: _Scale) -> Markup:
    at = [(scale.x(x), scale.y(y)) for x, y in line.points]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in at)
    made = Markup('<path class="line {}" d="{}"/>').format(line.style, path)
    if line.dots or len(at) == 1:
        made += Markup("").join(
            Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(line.style, x, y)
            for x, y in at
        )
    return made


def finite(points: Sequence[Point]) -> list[Point]:
    """Only the points that can be drawn."""
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def thin(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most `most` points, evenly chosen, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    last = len(points) - 1
    return [points[round(i * last / (most - 1))] for i in range(most)]


def ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round numbers that cover [low, high], about `wanted` of them, at least two."""
    if high - low < 1e-12 * max(1.0, abs(high)):
        low, high = low - abs(low) * 0.1 - 0.5, high + abs(high) * 0.1 + 0.5
    rough = (high - low) / max(1, wanted - 1)
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= rough * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def number(value: float) -> str:
    """A figure as a person writes it: three or four digits that matter."""
    if not math.isfinite(value):
        return "–"
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    size = abs(value)
    if size >= 100_000:
        return short(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.1f}"
    return f"{value:.3g}" if size < 0.01 else f"{value:.2f}".rstrip("0").rstrip(".")


def short(value: float) -> str:
    """A count in thousands (k), millions (M) or billions (G)."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"


__all__ = ["Chart", "Level", "Line", "number", "short", "thin", "ticks"]
