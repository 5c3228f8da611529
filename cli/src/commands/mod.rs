//! One module for each group of commands.

pub(crate) mod account;
pub(crate) mod blame;
pub(crate) mod build;
pub(crate) mod cluster;
pub(crate) mod collection;
pub(crate) mod contract;
pub(crate) mod demo;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod estimate;
pub(crate) mod logs;
pub(crate) mod money;
pub(crate) mod moves;
pub(crate) mod parts;
pub(crate) mod test;
pub(crate) mod testkit;
pub(crate) mod upgrade;
pub(crate) mod watch;
