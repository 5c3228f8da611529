mod chain;
mod cluster;
mod contracts;
mod log;
mod pool;
mod recovery;
mod upgrade;
