//! Runs against the product.

pub mod broadcast;
pub mod commands;
pub mod idle;
pub mod ledger_check;
pub mod reads;
