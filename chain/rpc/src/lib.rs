//! JSON-RPC with Substrate's method names
