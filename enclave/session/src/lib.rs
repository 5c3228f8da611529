//! End-to-end encrypted requests and replies between a client and one replica
