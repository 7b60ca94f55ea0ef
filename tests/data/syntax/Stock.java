package shop;

import java.util.HashMap;
import java.util.Map;
import shop.prices.PriceList;

/** Counts goods. */
public class Stock {
    static final int LOW_LEVEL = 3;

    private final Map<String, Integer> counts = new HashMap<>();

    public Stock(String name) {
        this.name = name;
        this.open = true;
    }

    /** Put so many of them on the shelf. */
    public int add(String goods, int count) {
        if (count < 0) {
            throw new IllegalArgumentException("count " + count + " is negative");
        }
        int total = counts.getOrDefault(goods, 0) + count;
        counts.put(goods, total);
        return total;
    }

    double worth(PriceList prices) {
        double total = 0;
        for (String goods : counts.keySet()) {
            double price = prices.priceOf(goods, "shop");
            total += price * counts.get(goods);
        }
        return total;
    }
}

interface Shelf {
    int size(String goods);
}

enum Level { LOW, HIGH }
