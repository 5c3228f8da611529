//! The command line of the network
