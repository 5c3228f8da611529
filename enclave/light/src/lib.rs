//! Light client: finality certificates and storage proofs
