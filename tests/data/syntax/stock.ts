import { priceOf } from './prices';

export const LOW_LEVEL = 3;

export interface Goods {
  name: string;
  count: number;
}

export type Level = 'low' | 'high';

/** Counts goods. */
export class Stock {
  private counts = new Map<string, number>();

  /** Put so many of them on the shelf. */
  add(goods: string, count: number): number {
    if (count < 0) {
      throw new Error(`count ${count} is negative`);
    }
    const total = (this.counts.get(goods) ?? 0) + count;
    this.counts.set(goods, total);
    return total;
  }
}

/** What all goods cost together. */
export function worth(goods: Goods[], shop: string): number {
  let total = 0;
  for (const one of goods) {
    const price = priceOf(one.name, shop);
    total += price * one.count;
  }
  return total;
}

export const half = (count: number): number => {
  const rest = count % 2;
  return (count - rest) / 2;
};
