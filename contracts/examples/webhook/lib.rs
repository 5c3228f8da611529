//! A webhook as GitHub sends them: each delivery is signed over its body by a secret that only the contract and GitHub
//! know, and is counted once, by the kind of event that it tells of.
//!
//! What it shows: HTTP requests to a worker that become commands. The secret lies in the contract's encrypted state; it
//! comes there by an encrypted command, so no host ever sees it. Each delivery is plain HTTP, so the host of the worker
//! sees that one.
//!
//! ```sh
//! phala build contracts/examples/webhook
//! phala deploy contracts/target/ink/webhook/webhook.contract new '"a secret"' --suri //Alice
//! BODY='{"action":"created"}'
//! SIGNATURE=$(printf %s "$BODY" | openssl dgst -sha256 -hmac 'a secret' | cut -d' ' -f2)
//! curl -d "$BODY" -H "x-hub-signature-256: sha256=$SIGNATURE" -H 'x-github-event: star' -H 'x-github-delivery: 1' \
//!     http://127.0.0.1:8710/v1/hooks/ADDRESS/github
//! phala query ADDRESS count star
//! ```
#![cfg_attr(not(feature = "std"), no_std, no_main)]

/// The contract.
#[ink::contract(env = pink::PinkEnvironment)]
mod webhook {
    use ink::{
        prelude::{string::String, vec::Vec},
        storage::Mapping,
    };
    use pink::{Hook, HookRequest, HookResponse};

    /// Selector of [`Webhook::delivered`].
    const DELIVERED: [u8; 4] = [0, 0, 0, 1];
    /// Longest kind of event, and name of a delivery, in bytes.
    const MAX_NAME: usize = 64;

    /// An event was told for the first time.
    #[ink(event)]
    pub struct Told {
        /// Such as `star`.
        #[ink(topic)]
        kind: String,
        /// How many of this kind there were.
        count: u64,
    }

    /// Who may bring events, and how many came.
    #[ink(storage)]
    pub struct Webhook {
        secret: Vec<u8>,
        counts: Mapping<String, u64>,
        delivered: Mapping<String, ()>,
    }

    impl Webhook {
        /// A hook at `github` for whoever has the secret.
        #[ink(constructor)]
        pub fn new(secret: String) -> Self {
            pink::open_hook("github", Hook::new(DELIVERED));
            Self { secret: secret.into_bytes(), counts: Mapping::default(), delivered: Mapping::default() }
        }

        /// Takes a delivery. A service that got no answer sends it again under the same name: it counts once.
        #[ink(message, selector = 0x0000_0001)]
        pub fn delivered(&mut self, request: HookRequest) -> HookResponse {
            assert_eq!(self.env().caller(), self.env().account_id(), "the network alone brings requests");
            if request.method != "POST" {
                return HookResponse::new(405, "deliveries are posted");
            }
            let signature = request.header("x-hub-signature-256").unwrap_or_default();
            if !pink::same(signature, &self.signature(&request.body)) {
                return HookResponse::new(401, "the signature is not of the secret");
            }
            let (Some(kind), Some(name)) = (text(&request, "x-github-event"), text(&request, "x-github-delivery"))
            else {
                return HookResponse::new(400, "an event has a kind and a name");
            };
            if self.delivered.insert(&name, &()).is_some() {
                return HookResponse::new(200, "known");
            }
            let count = self.count(kind.clone()).saturating_add(1);
            self.counts.insert(&kind, &count);
            self.env().emit_event(Told { kind, count });
            HookResponse::new(201, "counted")
        }

        /// How many events of this kind were told.
        #[ink(message)]
        pub fn count(&self, kind: String) -> u64 {
            self.counts.get(kind).unwrap_or_default()
        }

        /// What stands in the header of a body that was signed.
        fn signature(&self, body: &[u8]) -> Vec<u8> {
            let mut text = b"sha256=".to_vec();
            for byte in pink::hmac_sha256(&self.secret, body) {
                let digit = |value: u8| b"0123456789abcdef".get(usize::from(value)).copied().unwrap_or_default();
                text.extend([digit(byte >> 4), digit(byte & 15)]);
            }
            text
        }
    }

    /// A header that is a short text.
    fn text(request: &HookRequest, name: &str) -> Option<String> {
        let value = request.header(name).filter(|value| !value.is_empty() && value.len() <= MAX_NAME)?;
        String::from_utf8(value.to_vec()).ok()
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use ink::env::test;
        use pink::PinkEnvironment;

        fn webhook() -> Webhook {
            let mock = pink::mock::install();
            mock.set_command(true);
            let contract = ink::env::account_id::<PinkEnvironment>();
            test::set_caller::<PinkEnvironment>(contract);
            let webhook = Webhook::new(String::from("secret"));
            assert_eq!(mock.hooks(), ["github"]);
            webhook
        }

        fn delivery(webhook: &Webhook, name: &str, body: &str) -> HookRequest {
            let header = |name: &str, value: &[u8]| (String::from(name), value.to_vec());
            HookRequest {
                method: String::from("POST"),
                path: String::from("github"),
                query: String::new(),
                headers: vec![
                    header("x-github-event", b"star"),
                    header("x-github-delivery", name.as_bytes()),
                    header("x-hub-signature-256", &webhook.signature(body.as_bytes())),
                ],
                body: body.as_bytes().to_vec(),
            }
        }

        #[ink::test]
        fn the_signature_is_githubs() {
            // The example of GitHub's documentation.
            let mut webhook = webhook();
            webhook.secret = b"It's a Secret to Everybody".to_vec();
            let expected = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
            assert_eq!(webhook.signature(b"Hello, World!"), expected.as_bytes());
        }

        #[ink::test]
        fn a_delivery_counts_once_and_a_forged_one_not_at_all() {
            let mut webhook = webhook();
            let good = delivery(&webhook, "1", "{}");
            assert_eq!(webhook.delivered(good.clone()).status_code, 201);
            assert_eq!(webhook.delivered(good.clone()).status_code, 200);
            let forged = HookRequest { body: b"{ }".to_vec(), ..good.clone() };
            assert_eq!(webhook.delivered(forged).status_code, 401);
            assert_eq!(webhook.delivered(HookRequest { method: String::from("GET"), ..good }).status_code, 405);
            assert_eq!(webhook.count(String::from("star")), 1);
            assert_eq!(test::recorded_events().count(), 1);
        }

        #[ink::test]
        #[should_panic(expected = "the network alone")]
        fn nobody_else_brings_deliveries() {
            let mut webhook = webhook();
            test::set_caller::<PinkEnvironment>(test::default_accounts::<PinkEnvironment>().bob);
            let good = delivery(&webhook, "1", "{}");
            webhook.delivered(good);
        }
    }
}
