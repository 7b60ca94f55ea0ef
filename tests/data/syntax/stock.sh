#!/usr/bin/env bash
# Stock of a shop.

source ./prices.sh

readonly LOW_LEVEL=3
SHOP=north

# Put so many of them on the shelf.
add_goods() {
  local goods="$1" count="$2"
  if [ "$count" -lt 0 ]; then
    echo "count $count is negative" >&2
    return 1
  fi
  total=$((${COUNTS[$goods]:-0} + count))
  COUNTS[$goods]=$total
  echo "$total"
}

# What all goods cost together.
function worth {
  local total=0
  for goods in "${!COUNTS[@]}"; do
    price=$(price_of "$goods" "$SHOP")
    total=$((total + price * COUNTS[$goods]))
  done
  echo "$total"
}
