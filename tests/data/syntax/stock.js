import { priceOf } from './prices.js';

const LOW_LEVEL = 3;

/** Counts goods. */
class Stock {
  constructor(name) {
    this.name = name;
    this.counts = new Map();
  }

  /** Put so many of them on the shelf. */
  add(goods, count) {
    if (count < 0) {
      throw new Error(`count ${count} is negative`);
    }
    const total = (this.counts.get(goods) ?? 0) + count;
    this.counts.set(goods, total);
    return total;
  }
}

/** What all goods cost together. */
function worth(stock) {
  let total = 0;
  for (const [goods, count] of stock.counts) {
    const price = priceOf(goods, stock.name);
    total += price * count;
  }
  return total;
}

const isLow = (count) => count < LOW_LEVEL;

module.exports = { Stock, worth, isLow };
