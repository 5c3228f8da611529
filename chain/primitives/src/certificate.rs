//! Finality certificates in a plain form, so that a light client needs none of the consensus engine.
//!
//! A certificate is what Simplex calls a finalization: at least `quorum(n)` of the `n` members of an epoch signed
//! the same proposal `(epoch, view, parent view, digest)` with ed25519. The digest is that of the block (chain) or
//! entry (cluster). A test of `phala-consensus` holds this form against the engine's own.
//!
//! Signatures are verified by the rules of ZIP 215, as the engine does. Stricter rules would let a faulty member make
//! a vote that its peers count and light clients refuse.

use crate::{Hash, PublicKey};
use codec::{Decode, Encode};

/// Votes that decide among `n` members when `f = ⌊(n-1)/3⌋` of them may be faulty: `n - f`.
pub const fn quorum(n: usize) -> usize {
    n - (n.saturating_sub(1)) / 3
}

/// Proof that an epoch's members finalised a digest.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Certificate {
    /// Epoch whose members signed.
    pub epoch: u64,
    /// View in which the proposal was made.
    pub view: u64,
    /// View of the proposal's parent.
    pub parent_view: u64,
    /// What was finalised.
    pub digest: Hash,
    /// Index of the signer among the members sorted by key, and the signature; strictly ascending by index.
    pub votes: Vec<(u16, [u8; 64])>,
}

/// Most descendants between a block and the certificate that makes it final.
pub const MAX_DESCENDANTS: usize = 64;

/// Why a block is final: a certificate over it, or over a descendant. Simplex finalises with a block all that it
/// builds on, so that after a leader failed a block may never get a certificate of its own.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Finality {
    /// Encoded headers from the block's child up to the one that the certificate is over; empty if it is over the
    /// block itself.
    pub descendants: Vec<Vec<u8>>,
    /// The certificate.
    pub certificate: Certificate,
}

impl Finality {
    /// Whether the descendants lead from the block with this digest to the certificate; `parent` reads the parent's
    /// digest from a header. That the certificate is valid is for [`Certificate::verify`] to say.
    pub fn leads_from(&self, digest: Hash, parent: impl Fn(&[u8]) -> Option<Hash>) -> bool {
        if self.descendants.len() > MAX_DESCENDANTS {
            return false;
        }
        let mut last = digest;
        for header in &self.descendants {
            if parent(header) != Some(last) {
                return false;
            }
            last = crate::blake2_256(header);
        }
        self.certificate.digest == last
    }
}

impl From<Certificate> for Finality {
    fn from(certificate: Certificate) -> Self {
        Self { descendants: vec![], certificate }
    }
}

/// Why a certificate proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Fewer signatures than a quorum.
    #[error("the certificate carries {have} signatures, a quorum is {need}")]
    NoQuorum {
        /// Signatures present.
        have: usize,
        /// Signatures needed.
        need: usize,
    },
    /// A signer is unknown, named twice, or out of order.
    #[error("the certificate names a signer that is unknown, repeated or out of order")]
    Signers,
    /// A signature is wrong.
    #[error("a signature of the certificate is wrong")]
    Signature,
}

impl Certificate {
    /// The bytes that each signer signed, for a log with this namespace.
    ///
    /// Layout, from `commonware-consensus` 2026.10.0 (`simplex::types::Proposal`, `simplex::scheme`): the namespace
    /// followed by `_FINALIZE`, prefixed by its length as a varint, then epoch, view and parent view as varints and
    /// the digest. Votes of other kinds have another ending, and without a proposal end behind the view.
    pub fn message(&self, namespace: &[u8]) -> Vec<u8> {
        let round = (self.epoch, self.view);
        vote_message(namespace, b"_FINALIZE", round, Some((self.parent_view, &self.digest)))
    }

    /// Checks quorum and signatures against the epoch's members, in any order.
    pub fn verify(&self, namespace: &[u8], members: &[PublicKey]) -> Result<(), CertificateError> {
        let need = quorum(members.len());
        if members.is_empty() || self.votes.len() < need || self.votes.len() > members.len() {
            return Err(CertificateError::NoQuorum { have: self.votes.len(), need });
        }
        let mut sorted = members.to_vec();
        sorted.sort_unstable();
        let message = self.message(namespace);
        let mut last = None;
        for (index, signature) in &self.votes {
            if last.is_some_and(|last| last >= *index) {
                return Err(CertificateError::Signers);
            }
            last = Some(*index);
            let member = sorted.get(usize::from(*index)).ok_or(CertificateError::Signers)?;
            let key = ed25519_zebra::VerificationKey::try_from(*member).map_err(|_| CertificateError::Signers)?;
            key.verify(&(*signature).into(), &message).map_err(|_| CertificateError::Signature)?;
        }
        Ok(())
    }
}

/// What a vote of this kind signs, for a proposal `(parent view, digest)` or none.
pub(crate) fn vote_message(
    namespace: &[u8],
    kind: &[u8],
    (epoch, view): (u64, u64),
    proposal: Option<(u64, &Hash)>,
) -> Vec<u8> {
    let namespace = [namespace, kind].concat();
    let mut out = Vec::with_capacity(namespace.len() + 64);
    varint(&mut out, namespace.len() as u64);
    out.extend_from_slice(&namespace);
    varint(&mut out, epoch);
    varint(&mut out, view);
    if let Some((parent_view, digest)) = proposal {
        varint(&mut out, parent_view);
        out.extend_from_slice(&digest.0);
    }
    out
}

/// Unsigned LEB128, as `commonware-codec` writes it.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finality_follows_descendants_to_the_certificate_and_no_further() {
        let parent = |header: &[u8]| header.first_chunk::<32>().map(|hash| Hash(*hash));
        let block = Hash([1; 32]);
        let child = [&block.0[..], b"child"].concat();
        let grandchild = [&crate::blake2_256(&child).0[..], b"grandchild"].concat();
        let over = |digest| Certificate { epoch: 0, view: 1, parent_view: 0, digest, votes: vec![] };
        assert!(Finality::from(over(block)).leads_from(block, parent));
        assert!(!Finality::from(over(Hash([2; 32]))).leads_from(block, parent));
        let certificate = over(crate::blake2_256(&grandchild));
        let good = Finality { descendants: vec![child.clone(), grandchild.clone()], certificate };
        assert!(good.leads_from(block, parent));
        assert!(!good.leads_from(Hash([2; 32]), parent));
        let descendants = vec![grandchild, child];
        assert!(!Finality { descendants, ..good.clone() }.leads_from(block, parent), "out of order");
        let descendants = vec![vec![]; MAX_DESCENDANTS + 1];
        assert!(!Finality { descendants, ..good }.leads_from(block, parent), "too many");
    }
}
