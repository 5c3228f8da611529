//! Clusters, their epochs, contract code and contracts
