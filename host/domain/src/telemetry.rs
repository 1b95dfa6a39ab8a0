//! What machines say of themselves: series of numbers, what is believed of them, what is made of them.

pub mod metric;
pub mod report;
pub mod rollup;
pub mod history;
pub mod trend;
pub mod health;
pub mod across;
