mod chain;
mod cluster;
mod contracts;
mod log;
mod policy;
mod pool;
mod recovery;
