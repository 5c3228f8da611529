//! Repeatable measurements against a baseline
