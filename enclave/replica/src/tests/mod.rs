mod chain;
mod cluster;
mod contracts;
mod log;
mod money;
mod policy;
mod pool;
mod recovery;
