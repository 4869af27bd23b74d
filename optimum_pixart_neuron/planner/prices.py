"""Prices of instances, with where and when they were read. They change: `--price_per_hour` replaces them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Price:
    """US dollars an hour.

    Attributes:
        per_hour: of the whole instance.
        source: kind of price, region, and where it was read.
        date: when it was valid, as YYYY-MM-DD; None for the user's own.
    """

    per_hour: float
    source: str
    date: str | None


# instances.vantage.sh (which reads AWS's price list), as kept in github.com/tsaol/aws-gpu `data/*_instances.js`. It
# lists no on-demand price for trn2.48xlarge; trn2.3xlarge and trn2u.48xlarge are not in it.
_SOURCE, _DATE = "on-demand, Linux, us-east-1; instances.vantage.sh", "2026-08-26"
_ON_DEMAND = {
    "inf2.xlarge": 0.7582,
    "inf2.8xlarge": 1.96786,
    "inf2.24xlarge": 6.49063,
    "inf2.48xlarge": 12.98127,
    "trn1.2xlarge": 1.34375,
    "trn1.32xlarge": 21.5,
    "trn1n.32xlarge": 24.78,
}
PRICES = {name: Price(per_hour=price, source=_SOURCE, date=_DATE) for name, price in _ON_DEMAND.items()}
"""By product name; an instance that is not in it has no known price."""


def own_price(per_hour: float) -> Price:
    """A price that the user gave."""
    return Price(per_hour=per_hour, source="--price_per_hour", date=None)
