#include <map>
#include <stdexcept>
#include "prices.h"

namespace shop {

constexpr int low_level = 3;

enum class Level { low, high };

/// Counts goods.
class Stock {
public:
    explicit Stock(std::string name) : name_(std::move(name)) {}

    /// Put so many of them on the shelf.
    int add(const std::string& goods, int count) {
        if (count < 0) {
            throw std::invalid_argument("count is negative");
        }
        int total = counts_[goods] + count;
        counts_[goods] = total;
        return total;
    }

    double worth() const;

private:
    std::string name_;
    std::map<std::string, int> counts_;
};

double Stock::worth() const {
    double total = 0;
    for (const auto& [goods, count] : counts_) {
        double price = price_of(goods, name_);
        total += price * count;
    }
    return total;
}

template <typename T>
T half(T count) {
    T rest = count % 2;
    return (count - rest) / 2;
}

}  // namespace shop
