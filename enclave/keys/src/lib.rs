//! Keys of clusters: derivation, release to attested workers
