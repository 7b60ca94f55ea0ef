require_relative 'prices'

module Shop
  LOW_LEVEL = 3

  # Counts goods.
  class Stock
    attr_reader :name

    def initialize(name)
      @name = name
      @counts = Hash.new(0)
    end

    # Put so many of them on the shelf.
    def add(goods, count)
      if count < 0
        raise ArgumentError, "count #{count} is negative"
      end
      total = @counts.fetch(goods, 0) + count
      @counts[goods] = total
      total
    end

    def self.empty(name)
      stock = new(name)
      stock.freeze
    end
  end

  # What all goods cost together.
  def worth(stock)
    total = 0.0
    stock.counts.each do |goods, count|
      price = price_of(goods, stock.name)
      total += price * count
    end
    total
  end
end
