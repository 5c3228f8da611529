//! Accounts of the simulation: ed25519, because signatures of sr25519 are drawn at random and no seed governs them.

use crate::rng::Seeded;
use codec::Encode;
use ed25519_dalek::{Signer, SigningKey};
use parking_lot::Mutex;
use phala_primitives::{AccountId, AccountSignature, Hash};
use phala_runtime::{Runtime, RuntimeCall, Signature, SignedPayload, TxExtension, UncheckedExtrinsic, VERSION};
use phala_session::{Credentials, Scope};
use sp_core::H256;
use sp_runtime::{MultiAddress, generic::Era};

/// Life of a session certificate: longer than a run.
const CERTIFICATE_MS: u64 = 24 * 3600 * 1000;

/// Someone with a key.
pub(crate) struct Account {
    key: SigningKey,
    nonce: Mutex<u32>,
}

impl Account {
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        Self { key: SigningKey::from_bytes(&Seeded::new(seed, name).bytes()), nonce: Mutex::default() }
    }

    pub(crate) fn id(&self) -> AccountId {
        AccountId(self.key.verifying_key().to_bytes())
    }

    /// The same account as FRAME has it.
    pub(crate) fn frame(&self) -> phala_runtime::AccountId {
        phala_runtime::AccountId::new(self.id().0)
    }

    /// A signed extrinsic with the account's next nonce, which it uses up. Returns that nonce too.
    pub(crate) fn extrinsic(&self, genesis: &Hash, call: RuntimeCall) -> (u32, Vec<u8>) {
        let mut next = self.nonce.lock();
        let nonce = *next;
        *next += 1;
        (nonce, self.sign(genesis, nonce, call))
    }

    /// A signed extrinsic with this nonce.
    pub(crate) fn sign(&self, genesis: &Hash, nonce: u32, call: RuntimeCall) -> Vec<u8> {
        let extension: TxExtension = (
            frame_system::CheckNonZeroSender::new(),
            frame_system::CheckSpecVersion::new(),
            frame_system::CheckTxVersion::new(),
            frame_system::CheckGenesis::new(),
            frame_system::CheckEra::from(Era::Immortal),
            frame_system::CheckNonce::from(nonce),
            frame_system::CheckWeight::new(),
            pallet_transaction_payment::ChargeTransactionPayment::from(0),
            frame_metadata_hash_extension::CheckMetadataHash::<Runtime>::new(false),
        );
        let genesis = H256(genesis.0);
        let implicit = ((), VERSION.spec_version, VERSION.transaction_version, genesis, genesis, (), (), (), None);
        let payload = SignedPayload::from_raw(call, extension, implicit);
        let signature = payload.using_encoded(|bytes| self.key.sign(bytes).to_bytes());
        let signature = Signature::Ed25519(sp_core::ed25519::Signature::from(signature));
        let (call, extension, _) = payload.deconstruct();
        let signer = MultiAddress::Id(self.frame());
        UncheckedExtrinsic::new_signed(call, signer, signature, extension).encode()
    }

    /// The right to act for the account in sessions.
    pub(crate) fn credentials(&self, seed: u64, genesis: Hash, now_ms: u64) -> Credentials {
        let mut rng = Seeded::new(seed, &format!("session of {}", self.id()));
        let sign = |text: &str| AccountSignature::Ed25519(self.key.sign(text.as_bytes()).to_bytes());
        let until_ms = now_ms + CERTIFICATE_MS;
        Credentials::issue(genesis, self.id(), Scope::All, now_ms.saturating_sub(1000), until_ms, &mut rng, sign)
    }
}
