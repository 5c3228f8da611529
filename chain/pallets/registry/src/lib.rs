//! Workers, their evidence and endpoints, and the validator set
