"""A plot of policies as text: cold rate against memory, one point for each, in plain SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.loading.comparison import Row

__all__ = ("plot",)

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 720, 420, 70, 50, 40, 170
_OURS, _OTHERS = "#b5341b", "#44546a"


def plot(rows: Sequence[Row], title: str) -> str:
    """An SVG document: memory (GiB hours) to the right, mean wait (s) upwards; ours in red."""
    most_x = max(row.result.gib_h for row in rows) * 1.05 or 1.0
    most_y = max(row.result.mean_wait for row in rows) * 1.1 or 1.0

    def x(value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * value / most_x

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * value / most_y

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="24" font-size="15">{escape(title)}</text>',
    ]
    for step in range(5):
        across, up = f"{x(most_x * step / 4):.1f}", y(most_y * step / 4)
        parts += [
            f'<path d="M{across} {y(0):.1f}V{_TOP}" stroke="#e3e6ea"/>',
            f'<path d="M{_LEFT} {up:.1f}H{_WIDTH - _RIGHT}" stroke="#e3e6ea"/>',
            f'<text x="{across}" y="{y(0) + 18:.1f}" text-anchor="middle">{most_x * step / 4:,.0f}</text>',
            f'<text x="{_LEFT - 8}" y="{up + 4:.1f}" text-anchor="end">{most_y * step / 4:.2f}</text>',
        ]
    for row in rows:
        colour = _OURS if row.name.startswith("pillion") else _OTHERS
        at_x, at_y = x(row.result.gib_h), y(row.result.mean_wait)
        parts += [
            f'<circle cx="{at_x:.1f}" cy="{at_y:.1f}" r="5" fill="{colour}"/>',
            f'<text x="{at_x + 9:.1f}" y="{at_y + 4:.1f}" fill="{colour}">{escape(row.name)}</text>',
        ]
    middle_x, middle_y = (_WIDTH + _LEFT - _RIGHT) // 2, _HEIGHT // 2
    parts += [
        f'<text x="{middle_x}" y="{_HEIGHT - 10}" text-anchor="middle">memory, GiB hours</text>',
        f'<text x="16" y="{middle_y}" text-anchor="middle" transform="rotate(-90 16 {middle_y})">',
        "mean wait over all requests, s</text>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"
