"""Pictures of the rationale as inline SVG: they print, scale, and need no script."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from nbkit.rationale._explanation import Dependence
from nbkit.rationale._facts import figure

_INK, _SOFT, _LINE, _UP, _DOWN = "#1d2733", "#5b6875", "#d5dbe1", "#b3541e", "#2f6690"
_FONT = 'font-family="Helvetica, Arial, sans-serif" font-size="12"'

# A few extreme values would press all others against one edge; what lies beyond is drawn at the edge.
_TAIL = 0.02
_BARS = 16


def importance_figure(importance: Mapping[str, float], *, scale: str) -> str:
    """Draw a horizontal bar for each input, largest first.

    Parameters
    ----------
    importance : mapping of str to float
        Mean absolute contribution by input.
    scale : str
        The unit of these.

    Returns
    -------
    str
        An ``<svg>`` element.
    """
    shown = list(importance.items())[:_BARS]
    largest = max((value for _, value in shown), default=0.0) or 1.0
    height, left, width = 22, 190, 440
    parts = [_text(left, 14, f"mean distance it moves the score ({scale})", color=_SOFT)]
    for row, (name, value) in enumerate(shown):
        top = 24 + row * height
        length = width * value / largest
        parts.append(_text(left - 8, top + 14, name, anchor="end"))
        parts.append(f'<rect x="{left}" y="{top + 3}" width="{length:.1f}" height="{height - 7}" fill="{_DOWN}"/>')
        parts.append(_text(left + length + 6, top + 14, figure(value), color=_SOFT))
    title = "Importance of the inputs: " + ", ".join(f"{name} {figure(value)}" for name, value in shown)
    return _svg(parts, width=720, height=30 + len(shown) * height, title=title)


def dependence_figure(dependence: Dependence, *, scale: str) -> str:
    """Draw an input's contribution against its value.

    Parameters
    ----------
    dependence : Dependence
        Values and contributions of one input.
    scale : str
        The unit of contributions.

    Returns
    -------
    str
        An ``<svg>`` element: points for numbers, a bar of means for categories and for numbers of few values.
    """
    known = {value for value in dependence.values if value is not None}
    few = len(known) <= 2 or any(isinstance(value, str) for value in known)
    parts = list(_level_bars(dependence) if few else _points(dependence))
    title = f"Contribution of {dependence.input} ({scale}) by its value"
    return _svg([_text(8, 16, dependence.input, weight="bold"), *parts], width=352, height=220, title=title)


def cost_figure(curve: Sequence[tuple[float, float]], *, marks: Mapping[str, float], currency: str) -> str:
    """Draw the expected cost per row by threshold, and where the chosen thresholds lie.

    Parameters
    ----------
    curve : sequence of (threshold, cost)
        As it was searched.
    marks : mapping of str to float
        Names and values of the thresholds.
    currency : str
        Of the cost.

    Returns
    -------
    str
        An ``<svg>`` element.
    """
    points = sorted((x, y) for x, y in curve if 0 <= x <= 1 and math.isfinite(y))
    frame = _Frame(xs=(0.0, 1.0), ys=_span([y for _, y in points]), left=64, top=30, width=630, height=190)
    step = max(1, len(points) // 400)
    line = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in points[::step])
    parts = [_text(8, 16, f"expected cost per row ({currency}) by threshold", color=_SOFT), *frame.axes()]
    parts.append(f'<polyline points="{line}" fill="none" stroke="{_DOWN}" stroke-width="1.8"/>')
    for row, (name, value) in enumerate(sorted(marks.items(), key=lambda mark: mark[1])):
        x = frame.x(value)
        label = f"{name} from {figure(value)}"
        parts.append(f'<path d="M{x:.1f} 30V220" stroke="{_UP}" stroke-dasharray="4 3"/>')
        parts.append(_text(x + 5, 42 + 16 * row, label, color=_UP))
    return _svg(parts, width=720, height=246, title=f"Expected cost per row by threshold, in {currency}")


class _Frame:
    """A plot area with linear axes."""

    def __init__(
        self, *, xs: tuple[float, float], ys: tuple[float, float], left: int, top: int, width: int, height: int
    ) -> None:
        self.xs, self.ys = xs, ys
        self.left, self.top, self.width, self.height = left, top, width, height

    def x(self, value: float) -> float:
        low, high = self.xs
        return self.left + self.width * (min(max(value, low), high) - low) / (high - low)

    def y(self, value: float) -> float:
        low, high = self.ys
        return self.top + self.height * (1 - (min(max(value, low), high) - low) / (high - low))

    def axes(self) -> Iterator[str]:
        right, bottom = self.left + self.width, self.top + self.height
        for tick in _ticks(*self.ys):
            y = self.y(tick)
            yield f'<path d="M{self.left} {y:.1f}H{right}" stroke="{_INK if tick == 0 else _LINE}" stroke-width="0.8"/>'
            yield _text(self.left - 6, y + 4, _tick(tick), anchor="end", color=_SOFT)
        for tick in _ticks(*self.xs):
            yield _text(self.x(tick), bottom + 16, _tick(tick), anchor="middle", color=_SOFT)


def _points(dependence: Dependence) -> Iterator[str]:
    pairs = list(zip(dependence.values, dependence.contributions, strict=True))
    numbers = sorted(value for value, _ in pairs if isinstance(value, float))
    tail = int(len(numbers) * _TAIL)
    missing = [y for value, y in pairs if value is None]
    left = 90 if missing else 48
    frame = _Frame(
        xs=_span([numbers[tail], numbers[-1 - tail]]),
        ys=_span([*dependence.contributions, 0.0]),
        left=left,
        top=28,
        width=340 - left,
        height=160,
    )
    yield from frame.axes()
    for value, y in pairs:
        if isinstance(value, float):
            yield _dot(frame.x(value), frame.y(y), color=_UP if y > 0 else _DOWN)
    for y in missing:
        yield _dot(58, frame.y(y), color=_SOFT)
    if missing:
        yield _text(58, 204, "missing", anchor="middle", color=_SOFT)


def _level_bars(dependence: Dependence) -> Iterator[str]:
    by_level: dict[str, list[float]] = {}
    for value, contribution in zip(dependence.values, dependence.contributions, strict=True):
        level = "missing" if value is None else value if isinstance(value, str) else _tick(value)
        by_level.setdefault(level, []).append(contribution)
    means = sorted(((sum(ys) / len(ys), level, len(ys)) for level, ys in by_level.items()), reverse=True)[:7]
    frame = _Frame(xs=_span([*(mean for mean, _, _ in means), 0.0]), ys=(0, 1), left=150, top=28, width=150, height=160)
    height = min(26, 160 // max(len(means), 1))
    zero = frame.x(0.0)
    for row, (mean, level, count) in enumerate(means):
        top = 34 + row * height
        end = frame.x(mean)
        color = _UP if mean > 0 else _DOWN
        yield _text(142, top + 12, level if len(level) <= 22 else level[:21] + "…", anchor="end")
        yield (
            f'<rect x="{min(zero, end):.1f}" y="{top + 2}" width="{abs(end - zero):.1f}" height="{height - 8}"'
            f' fill="{color}"/>'
        )
        yield _text(308, top + 12, f"n {count}", color=_SOFT)
    yield f'<path d="M{zero:.1f} 30V{36 + len(means) * height}" stroke="{_INK}" stroke-width="0.8"/>'
    for tick in _ticks(*frame.xs):
        yield _text(frame.x(tick), 204, _tick(tick), anchor="middle", color=_SOFT)


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if low == high:
        return low - 0.5, high + 0.5
    room = 0.04 * (high - low)
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """Return about four round numbers between two values."""
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step)
    return [place * step for place in range(first, math.floor(high / step) + 1)]


def _tick(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}" if abs(value) > 1e-12 else "0"


def _dot(x: float, y: float, *, color: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="{color}" fill-opacity="0.55"/>'


def _text(x: float, y: float, label: str, *, anchor: str = "start", color: str = _INK, weight: str = "normal") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} fill="{color}" font-weight="{weight}">{escape(label)}</text>'


def _svg(parts: Sequence[str], *, width: int, height: int, title: str) -> str:
    label = escape(title)
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'<svg {size} role="img" aria-label="{label}" {_FONT}><title>{label}</title>{"".join(parts)}</svg>'
