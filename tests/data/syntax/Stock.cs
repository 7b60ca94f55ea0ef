using System.Collections.Generic;
using Shop.Prices;

namespace Shop
{
    /// <summary>Counts goods.</summary>
    public class Stock
    {
        private const int LowLevel = 3;
        private readonly Dictionary<string, int> counts = new Dictionary<string, int>();

        public string Name { get; set; }

        public Stock(string name)
        {
            Name = name;
            Open = true;
        }

        /// <summary>Put so many of them on the shelf.</summary>
        public int Add(string goods, int count)
        {
            if (count < 0)
            {
                throw new ArgumentException($"count {count} is negative");
            }
            int total = counts.GetValueOrDefault(goods, 0) + count;
            counts[goods] = total;
            return total;
        }

        public double Worth(PriceList prices)
        {
            double total = 0;
            foreach (var goods in counts.Keys)
            {
                double price = prices.PriceOf(goods, Name);
                total += price * counts[goods];
            }
            return total;
        }
    }

    interface IShelf
    {
        int Size(string goods);
    }

    enum Level { Low, High }

    struct Place { public int Row; }

    record Order(string Goods, int Count);
}
