//! One module for each group of commands.

pub mod account;
pub mod build;
pub mod contract;
pub mod demo;
pub mod dev;
pub mod doctor;
