use crate::prices::price_of;
use std::collections::HashMap;

const LOW_LEVEL: i32 = 3;

/// Counts goods.
pub struct Stock {
    name: String,
    counts: HashMap<String, i32>,
}

pub trait Shelf {
    fn size(&self, goods: &str) -> i32;
}

pub enum Level {
    Low,
    High,
}

impl Stock {
    /// Put so many of them on the shelf.
    pub fn add(&mut self, goods: &str, count: i32) -> Result<i32, String> {
        if count < 0 {
            return Err(format!("count {} is negative", count));
        }
        let total = self.counts.get(goods).copied().unwrap_or(0) + count;
        self.counts.insert(goods.to_string(), total);
        Ok(total)
    }
}

/// What all goods cost together.
pub fn worth(stock: &Stock) -> f64 {
    let mut total = 0.0;
    for (goods, count) in &stock.counts {
        let price = price_of(goods, &stock.name);
        total += price * f64::from(*count);
    }
    total
}
