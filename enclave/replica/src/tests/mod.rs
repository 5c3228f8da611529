mod chain;
mod cluster;
mod contracts;
mod log;
mod money;
mod pool;
mod recovery;
