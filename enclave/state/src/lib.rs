//! Encrypted, authenticated, versioned state of a cluster
