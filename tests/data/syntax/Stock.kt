package shop

import shop.prices.priceOf

const val LOW_LEVEL = 3

/** Counts goods. */
class Stock(val name: String) {
    private val counts = mutableMapOf<String, Int>()

    /** Put so many of them on the shelf. */
    fun add(goods: String, count: Int): Int {
        if (count < 0) {
            throw IllegalArgumentException("count $count is negative")
        }
        val total = counts.getOrDefault(goods, 0) + count
        counts[goods] = total
        return total
    }

    fun worth(): Double {
        var total = 0.0
        for ((goods, count) in counts) {
            val price = priceOf(goods, name)
            total += price * count
        }
        return total
    }
}

interface Shelf {
    fun size(goods: String): Int
}

object Shops {
    val all = listOf(Stock("north"), Stock("south"))
}

fun isLow(count: Int) = count < LOW_LEVEL
