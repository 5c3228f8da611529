//! A SIMULATED trusted execution environment: quotes and sealing under a simulated vendor
