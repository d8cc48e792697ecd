//! The built program, as its users run it.

mod commands;
mod compare;
mod diff;
mod faults;
mod nginx;
mod run;
mod scenarios;
mod shared;
