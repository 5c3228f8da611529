//! Deterministic simulation of chain and cluster under faults
