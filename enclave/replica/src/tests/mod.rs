mod chain;
mod cluster;
mod contracts;
mod jobs;
mod log;
mod pool;
mod recovery;
