//! Client of the network: accounts, encrypted calls, verified receipts
