//! The room driven from outside: hostile and honest components, built here from text, led through the
//! gates, called, and dropped into a folder that is being watched.

mod calls;
mod compat;
mod compile;
mod gates;
mod guest;
mod hostile;
mod life;
mod pages;
mod reload;
mod rule_guest;
mod rules;
mod signed;
mod speed;
