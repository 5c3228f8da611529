//! Addresses on this machine.

use phala_primitives::{Code, Coded};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    ops::Range,
};

/// Where peers listen: below the ports that systems give to outgoing connections, one of which might else take an
/// address between its choice and its use.
const PORTS: Range<u16> = 10_240..30_000;
/// How many are tried.
const TRIES: usize = 1000;

/// A port of the loopback interface.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// An address that nobody listens on, kept for whoever holds this: other networks of this machine see by the socket of
/// the same number, on which nothing is ever sent, that it is taken.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) address: SocketAddr,
    _claim: UdpSocket,
}

/// Finds an address and keeps it.
pub(crate) fn keep_address() -> Result<Kept, Coded> {
    for _ in 0..TRIES {
        let mut drawn = [0; 2];
        getrandom::fill(&mut drawn).map_err(|e| Coded::new(Code::Internal, format!("no randomness: {e}")))?;
        let address = loopback(PORTS.start + u16::from_le_bytes(drawn) % (PORTS.end - PORTS.start));
        let Ok(claim) = UdpSocket::bind(address) else { continue };
        if TcpListener::bind(address).is_ok() {
            return Ok(Kept { address, _claim: claim });
        }
    }
    Err(Coded::new(Code::PortInUse, format!("no free port among {} from {} on", TRIES, PORTS.start)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_address_is_kept_from_others_and_free_for_its_owner() {
        let kept: Vec<_> = (0..200).map(|_| keep_address().unwrap()).collect();
        let addresses: BTreeSet<_> = kept.iter().map(|kept| kept.address).collect();
        assert_eq!(addresses.len(), kept.len());
        for kept in &kept {
            assert!(PORTS.contains(&kept.address.port()) && UdpSocket::bind(kept.address).is_err());
            assert!(TcpListener::bind(kept.address).is_ok());
        }
    }
}
