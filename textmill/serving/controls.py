"""How the slots of a service draw: of all sets of controls a few are compiled, and the smallest that has those in use
is taken. A control that a slot does not use changes nothing of what it draws.
"""

from __future__ import annotations

from textmill.models.sample import Controls, Variant

VARIANTS = (
    Variant(tempered=True),
    Variant(tempered=True, top_k=True, top_p=True),
    Variant(tempered=True, penalised=True, top_k=True, top_p=True),
    Variant(tempered=True, penalised=True, top_k=True, top_p=True, likeliest=True),
)


class ServedControls(Controls):
    """Controls whose variant is one of VARIANTS."""

    @property
    def variant(self) -> Variant:
        used = super().variant
        return next(v for v in VARIANTS if all(has or not uses for has, uses in zip(v, used, strict=True)))
