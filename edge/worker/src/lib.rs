//! A worker process: sockets, disk and clock around a replica
