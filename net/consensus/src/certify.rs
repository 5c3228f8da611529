//! From the engine's finalization to the plain certificate that light clients verify.

use crate::block::{Digest, hash};
use commonware_codec::Encode;
use commonware_consensus::simplex::{scheme::ed25519::Scheme, types::Finalization};
use phala_primitives::Certificate;

/// The plain form of a finalization. `None` if a signature in it is malformed, which verification has excluded.
pub(crate) fn plain(finalization: &Finalization<Scheme, Digest>) -> Option<Certificate> {
    let certificate = &finalization.certificate;
    let votes = certificate
        .signers
        .iter()
        .zip(&certificate.signatures)
        .map(|(signer, signature)| {
            let signature: [u8; 64] = signature.get()?.encode().as_ref().try_into().ok()?;
            Some((u16::try_from(signer.get()).ok()?, signature))
        })
        .collect::<Option<Vec<_>>>()?;
    let proposal = &finalization.proposal;
    Some(Certificate {
        epoch: proposal.round.epoch().get(),
        view: proposal.round.view().get(),
        parent_view: proposal.parent.get(),
        digest: hash(&proposal.payload),
        votes,
    })
}
