#include <stdio.h>
#include "prices.h"

#define LOW_LEVEL 3

/* Counts goods. */
struct stock {
    const char *name;
    int counts[16];
};

typedef struct stock stock_t;

enum level { LOW, HIGH };

/* Put so many of them on the shelf. */
int stock_add(struct stock *stock, int goods, int count)
{
    if (count < 0) {
        fprintf(stderr, "count %d is negative\n", count);
        return -1;
    }
    int total = stock->counts[goods] + count;
    stock->counts[goods] = total;
    return total;
}

/* What all goods cost together. */
static double worth(const struct stock *stock)
{
    double total = 0;
    for (int goods = 0; goods < 16; goods++) {
        double price = price_of(goods, stock->name);
        total += price * stock->counts[goods];
    }
    return total;
}
