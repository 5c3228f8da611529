//! The key service of a development network.

use crate::{ChainView, ClusterKeys, Key, KeyRequest, KeyService, SealedKeys, check, seal, unseal};
use phala_attest::SealKey;
use phala_primitives::{Code, Coded};
use rand_core::CryptoRng;

/// What the sealed master secret is called.
const CONTEXT: &str = "master secret";

/// SIMULATED: holds the whole master secret of a network, which no machine of a real network does.
pub struct DevKeyService {
    master: Key,
}

impl DevKeyService {
    /// A service with a new master secret.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut master = Key::new([0; 32]);
        rng.fill_bytes(master.expose_mut());
        Self { master }
    }

    /// The master secret, sealed to this machine, to be stored.
    pub fn seal(&self, key: &SealKey, rng: &mut dyn CryptoRng) -> Result<Vec<u8>, Coded> {
        seal(key, CONTEXT, self.master.expose(), rng)
    }

    /// The service whose master secret was stored. Fails with [`Code::Unsealable`].
    pub fn unseal(key: &SealKey, sealed: &[u8]) -> Result<Self, Coded> {
        let bytes = unseal(key, CONTEXT, sealed)?;
        let mut master = Key::new([0; 32]);
        if bytes.len() != master.expose().len() {
            return Err(Code::Unsealable.into());
        }
        master.expose_mut().copy_from_slice(&bytes);
        Ok(Self { master })
    }
}

impl KeyService for DevKeyService {
    fn release(
        &self,
        request: &KeyRequest,
        chain: &dyn ChainView,
        rng: &mut dyn CryptoRng,
    ) -> Result<SealedKeys, Coded> {
        check(request, chain)?;
        let keys = ClusterKeys::derive(&self.master, &request.genesis, request.cluster, request.answered())?;
        SealedKeys::seal(&keys, request, rng)
    }

    fn name(&self) -> &'static str {
        "one process with the whole master secret (SIMULATED: no gatekeepers)"
    }
}
