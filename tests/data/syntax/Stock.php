<?php

namespace Shop;

use Shop\Prices\PriceList;

const LOW_LEVEL = 3;

/** Counts goods. */
class Stock
{
    private array $counts = [];

    public function __construct(private string $name)
    {
        $this->open = true;
        $this->level = self::LOW;
    }

    /** Put so many of them on the shelf. */
    public function add(string $goods, int $count): int
    {
        if ($count < 0) {
            throw new \InvalidArgumentException("count $count is negative");
        }
        $total = ($this->counts[$goods] ?? 0) + $count;
        $this->counts[$goods] = $total;
        return $total;
    }
}

interface Shelf
{
    public function size(string $goods): int;
}

trait Named
{
    public string $name;
}

/** What all goods cost together. */
function worth(Stock $stock, PriceList $prices): float
{
    $total = 0.0;
    foreach ($stock->counts as $goods => $count) {
        $price = $prices->priceOf($goods, $stock->name);
        $total += $price * $count;
    }
    return $total;
}
