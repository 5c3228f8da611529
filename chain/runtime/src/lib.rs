//! The chain's state machine: FRAME pallets compiled natively
