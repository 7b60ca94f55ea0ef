"""Stock of a shop."""

from shop.prices import price_of

LOW_LEVEL = 3


class Stock:
    """Counts goods."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.counts: dict[str, int] = {}

    def add(self, goods: str, count: int) -> int:
        """Put so many of them on the shelf."""
        if count < 0:
            raise ValueError(f"count {count} is negative")
        total = self.counts.get(goods, 0) + count
        self.counts[goods] = total
        return total


def worth(stock: Stock) -> float:
    # What all goods cost together.
    total = 0.0
    for goods, count in stock.counts.items():
        price = price_of(goods, stock.name)
        total += price * count
    return total
