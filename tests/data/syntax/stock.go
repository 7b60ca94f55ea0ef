package shop

import (
	"fmt"

	"example.org/shop/prices"
)

const LowLevel = 3

// Stock counts goods.
type Stock struct {
	name   string
	counts map[string]int
}

type Shelf interface {
	Size(goods string) int
}

// Add puts so many of them on the shelf.
func (s *Stock) Add(goods string, count int) (int, error) {
	if count < 0 {
		return 0, fmt.Errorf("count %d is negative", count)
	}
	total := s.counts[goods] + count
	s.counts[goods] = total
	return total, nil
}

// Worth is what all goods cost together.
func Worth(stock *Stock) float64 {
	total := 0.0
	for goods, count := range stock.counts {
		price := prices.Of(goods, stock.name)
		total += price * float64(count)
	}
	return total
}
