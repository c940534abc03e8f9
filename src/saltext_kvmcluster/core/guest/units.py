"""Sizes with units, as libvirt writes them."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"\s*\+?([0-9]{1,20})\s*\Z", re.ASCII)


def in_bytes(number: str, unit: str) -> int | None:
    """Return a size in bytes, None if it is invalid. The units are those of virScaleInteger.

    ``b``, ``byte`` and ``bytes`` are bytes; k, M, G, T, P and E alone or with ``iB`` count by
    1024, with ``B`` by 1000; case does not matter.
    """
    found, factor = _NUMBER.match(number), _FACTORS.get(unit.lower())
    return int(found[1]) * factor if found and factor else None


_FACTORS = {"b": 1, "byte": 1, "bytes": 1}
for _power, _letter in enumerate("kmgtpe", 1):
    _FACTORS |= {_letter: 1024**_power, f"{_letter}ib": 1024**_power, f"{_letter}b": 1000**_power}
