//! Addresses on this machine.

use phala_primitives::{Code, Coded};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// A port of the loopback interface.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// An address that nobody listens on now. Another program may take it before it is used; then starting fails with
/// a clear error.
pub(crate) fn free_address() -> Result<SocketAddr, Coded> {
    TcpListener::bind(loopback(0))
        .and_then(|listener| listener.local_addr())
        .map_err(|e| Coded::new(Code::PortInUse, format!("no free port: {e}")))
}
