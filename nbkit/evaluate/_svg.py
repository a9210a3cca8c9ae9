"""Small pictures as inline SVG: axes, lines, bands, intervals. Colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

Point = tuple[float, float]

_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 16.0, 14.0, 46.0
_TICK = 5.0
_CHARACTER = 6.4


@dataclass(kw_only=True)
class Chart:
    """A picture with two linear axes, built by adding marks.

    Parameters
    ----------
    x, y : (float, float)
        Ends of the axes in data units.
    x_label, y_label : str
        Written beside the axes, with the unit.
    title : str
        What the picture shows, for readers who cannot see it.
    width, height : float
        Of the whole picture; the page scales it.
    """

    x: Point
    y: Point
    x_label: str
    y_label: str
    title: str
    width: float = 460.0
    height: float = 320.0
    _marks: list[Markup] = field(default_factory=list)

    def at(self, x: float, y: float) -> Point:
        """Return where a point is drawn."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return (
            _LEFT + across * (self.width - _LEFT - _RIGHT),
            self.height - _BOTTOM - up * (self.height - _TOP - _BOTTOM),
        )

    def line(self, points: Iterable[Point], *, kind: str) -> None:
        """Join points."""
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in (self.at(*point) for point in points))
        self._add(f'<polyline class="line {kind}" points="{path}"/>')

    def area(self, points: Sequence[Point], *, kind: str) -> None:
        """Fill what lies between a line and the lower axis."""
        closed = [(points[0][0], self.y[0]), *points, (points[-1][0], self.y[0])]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in (self.at(*point) for point in closed))
        self._add(f'<polygon class="area {kind}" points="{path}"/>')

    def box(self, low: Point, high: Point, *, kind: str, tip: str = "") -> None:
        """Fill a rectangle."""
        (left, bottom), (right, top) = self.at(*low), self.at(*high)
        self._add(
            f'<rect class="box {kind}" x="{left:.1f}" y="{top:.1f}" width="{max(0.0, right - left):.1f}" '
            f'height="{max(0.0, bottom - top):.1f}">{_tip(tip)}</rect>'
        )

    def dot(self, point: Point, *, kind: str, size: float = 4.0, tip: str = "") -> None:
        """Mark a point."""
        a, b = self.at(*point)
        self._add(f'<circle class="dot {kind}" cx="{a:.1f}" cy="{b:.1f}" r="{size:.1f}">{_tip(tip)}</circle>')

    def whisker(self, x: float, low: float, high: float, *, kind: str) -> None:
        """Draw an upright interval."""
        (a, bottom), (_, top) = self.at(x, low), self.at(x, high)
        self._add(f'<path class="whisker {kind}" d="M{a:.1f} {bottom:.1f}V{top:.1f}"/>')

    def upright(self, x: float, text: str, *, kind: str, row: int = 0) -> None:
        """Mark a value of x by a line over the whole height, with its name at the top."""
        a, top = self.at(x, self.y[1])
        _, bottom = self.at(x, self.y[0])
        self._add(f'<path class="mark {kind}" d="M{a:.1f} {bottom:.1f}V{top:.1f}"/>')
        room = a + 6 + len(text) * _CHARACTER < self.width - _RIGHT
        anchor, shift = ("start", 5) if room else ("end", -5)
        self.text(a + shift, top + 11 + 14 * row, text, kind=f"name {kind}", anchor=anchor)

    def label(self, point: Point, text: str, *, kind: str = "name", anchor: str = "start") -> None:
        """Write at a point of the data."""
        self.text(*self.at(*point), text, kind=kind, anchor=anchor)

    def text(self, x: float, y: float, text: str, *, kind: str, anchor: str = "middle") -> None:
        """Write at a place of the picture."""
        self._add(f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>')

    def render(self) -> Markup:
        """Return the picture."""
        body = Markup().join([self._axes(), *self._marks])
        return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
            f"{self.width:g}", f"{self.height:g}", self.title, body
        )

    def _add(self, mark: str) -> None:
        # Every mark is made above from numbers, fixed class names and escaped text.
        self._marks.append(Markup(mark))  # noqa: S704

    def _axes(self) -> Markup:
        marks = self._marks
        self._marks = []
        left, bottom = self.at(self.x[0], self.y[0])
        right, top = self.at(self.x[1], self.y[1])
        x_ticks, y_ticks = ticks(*self.x), ticks(*self.y)
        for value in y_ticks:
            _, b = self.at(self.x[0], value)
            self._add(f'<path class="grid" d="M{left:.1f} {b:.1f}H{right:.1f}"/>')
            self.text(left - 8, b + 4, tick_text(value, y_ticks), kind="tick", anchor="end")
        for value in x_ticks:
            a, _ = self.at(value, self.y[0])
            self._add(f'<path class="axis" d="M{a:.1f} {bottom:.1f}v{_TICK}"/>')
            self.text(a, bottom + 18, tick_text(value, x_ticks), kind="tick")
        self._add(f'<path class="axis" d="M{left:.1f} {bottom:.1f}H{right:.1f}"/>')
        self.text((left + right) / 2, self.height - 8, self.x_label, kind="axis-name")
        middle = (top + bottom) / 2
        self._add(
            f'<text class="axis-name" transform="translate(13 {middle:.1f}) rotate(-90)" text-anchor="middle">'
            f"{escape(self.y_label)}</text>"
        )
        axes = Markup().join(self._marks)
        self._marks = marks
        return axes


def strip(
    value: float | None,
    low: float | None,
    high: float | None,
    *,
    scale: Point,
    reference: float | None,
    kind: str = "",
    width: float = 190.0,
) -> Markup:
    """Return a one-line interval for a table cell; all cells of a column share the scale and the reference line."""
    height, pad = 18.0, 6.0

    def place(x: float) -> float:
        share = (min(max(x, scale[0]), scale[1]) - scale[0]) / (scale[1] - scale[0])
        return pad + share * (width - 2 * pad)

    parts = [f'<path class="grid" d="M{pad} {height / 2}H{width - pad}"/>']
    if reference is not None:
        parts.append(f'<path class="mark" d="M{place(reference):.1f} 1V{height - 1}"/>')
    if low is not None and high is not None:
        parts.append(f'<path class="whisker {kind}" d="M{place(low):.1f} {height / 2}H{place(high):.1f}"/>')
    if value is not None:
        parts.append(f'<circle class="dot {kind}" cx="{place(value):.1f}" cy="{height / 2}" r="3.6"/>')
    # Made of numbers and fixed class names only.
    body = Markup("".join(parts))  # noqa: S704
    return Markup('<svg class="strip" viewBox="0 0 {} {}" aria-hidden="true">{}</svg>').format(
        f"{width:g}", f"{height:g}", body
    )


def ticks(low: float, high: float, *, about: int = 5) -> list[float]:
    """Return round values inside an interval.

    Examples
    --------
    >>> ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    raw = (high - low) / about
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def tick_text(value: float, among: Sequence[float]) -> str:
    """Write a tick with as many decimals as its neighbours need."""
    step = among[1] - among[0] if len(among) > 1 else abs(value) or 1.0
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if decimals and not math.isclose(step * 10**decimals, round(step * 10**decimals), rel_tol=1e-6):
        decimals += 1
    return f"{value:,.{decimals}f}"


def _tip(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""
