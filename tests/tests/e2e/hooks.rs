//! HTTP requests of others that reach a contract: who signed them counts, each delivery counts once, whichever worker
//! gets it, and a flood holds up nobody else.

use crate::{
    harness::run,
    person::{self, GAS, Person, answer, code},
};
use futures::future::join_all;
use phala_client::Contract;
use phala_devnet::{Config, Devnet};
use std::time::Duration;

/// The example in GitHub's documentation: what its servers would send.
const SECRET: &str = "It's a Secret to Everybody";
const BODY: &str = "Hello, World!";
const SIGNATURE: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

fn input(label: &str, argument: &str) -> Vec<u8> {
    person::input("webhook.contract", label, argument)
}

/// How many the contract has counted, with those of these answers: whichever replica is asked must be as far.
async fn count(webhook: &Contract, answers: &[Answer]) -> u64 {
    answers.iter().filter_map(|answer| answer.entry).for_each(|height| webhook.cluster().observe(height));
    let answered = webhook.query(input("count", "star")).await.unwrap();
    answer(&answered.output.data)
}

struct Sender {
    http: reqwest::Client,
    contract: String,
}

struct Answer {
    status: u16,
    /// Height of the log's entry that it tells the outcome of.
    entry: Option<u64>,
    text: String,
}

impl Sender {
    fn request(&self, worker: &str, path: &str, name: &str, signature: &str) -> reqwest::RequestBuilder {
        let url = format!("{worker}/v1/hooks/{}/{path}?from=test", self.contract);
        let request = self.http.post(url).header("x-hub-signature-256", signature).header("X-GitHub-Event", "star");
        request.header("x-github-delivery", name).body(BODY)
    }

    async fn post(&self, worker: &str, name: &str, signature: &str) -> Answer {
        read(self.request(worker, "github", name, signature)).await
    }
}

async fn read(request: reqwest::RequestBuilder) -> Answer {
    let response = request.timeout(Duration::from_secs(30)).send().await.unwrap();
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (status, entry, policy) =
        (response.status().as_u16(), header("phala-entry"), header("content-security-policy"));
    assert_eq!(entry.is_some(), policy.as_deref() == Some("sandbox"), "what a contract says is marked as such");
    let entry = entry.map(|height| height.parse().unwrap());
    Answer { status, entry, text: response.text().await.unwrap() }
}

#[test]
fn signed_deliveries_count_once_whichever_worker_gets_them() {
    run(Duration::from_secs(180), async {
        let net = Devnet::start(Config::default(), |_| ()).await.unwrap();
        let alice = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
        let webhook = alice.deploy(code("webhook.contract"), input("new", SECRET)).await.unwrap();
        let workers = net.worker_urls();
        let sender = Sender { http: reqwest::Client::new(), contract: webhook.address().to_string() };

        let first = sender.post(&workers[0], "1", SIGNATURE).await;
        assert_eq!((first.status, first.text.as_str()), (201, "counted"));
        let again = sender.post(&workers[1], "1", SIGNATURE).await;
        assert_eq!((again.status, again.text.as_str()), (200, "known"));
        assert_eq!(sender.post(&workers[2], "2", &SIGNATURE.replace('7', "8")).await.status, 401);
        assert_eq!(
            read(sender.http.get(format!("{}/v1/hooks/{}/github", workers[0], sender.contract))).await.status,
            405
        );
        assert_eq!(count(&webhook, &[first, again]).await, 1);

        // The same key at another worker is the same request, whatever else is in it.
        let keyed = |worker: &str, name: &str| {
            sender.request(worker, "github/deep", name, SIGNATURE).header("idempotency-key", "once")
        };
        let (one, two) = (read(keyed(&workers[1], "3")).await, read(keyed(&workers[3], "4")).await);
        assert_eq!((one.status, two.status), (201, 201));
        assert!(one.entry.is_some() && one.entry == two.entry, "both are told what the first came to");
        assert_eq!(count(&webhook, &[one, two]).await, 2);

        refused(&sender, &workers[0]).await;
        flood(&sender, &workers[0], &webhook).await;
        net.stop().await;
    });
}

async fn refused(sender: &Sender, worker: &str) {
    let other = read(sender.request(worker, "other", "5", SIGNATURE)).await;
    assert_eq!((other.status, &other.text[..5]), (404, "P2051"));
    let nobody = Sender { http: sender.http.clone(), contract: phala_primitives::AccountId([9; 32]).to_string() };
    let missing = nobody.post(worker, "5", SIGNATURE).await;
    assert_eq!((missing.status, &missing.text[..5]), (404, "P2001"));
    let large = read(sender.request(worker, "github", "5", SIGNATURE).body(vec![b'x'; (128 << 10) + 1])).await;
    assert_eq!((large.status, &large.text[..5]), (413, "P2052"));
}

/// Many deliveries at once: each is counted or refused, and a command of a person is executed meanwhile.
async fn flood(sender: &Sender, worker: &str, webhook: &Contract) {
    let before = count(webhook, &[]).await;
    let names: Vec<String> = (0..200).map(|number| format!("flood {number}")).collect();
    let (answers, executed) = tokio::join!(
        join_all(names.iter().map(|name| sender.post(worker, name, SIGNATURE))),
        webhook.call(input("count", "star"), GAS)
    );
    executed.unwrap().outcome.result.unwrap();
    let counted = answers.iter().filter(|answer| answer.status == 201).count() as u64;
    let busy = answers.iter().filter(|answer| answer.status == 429 && answer.text.starts_with("P2053")).count();
    println!("of {} deliveries at once {counted} were counted and {busy} refused", names.len());
    assert_eq!(counted as usize + busy, names.len());
    assert_eq!(count(webhook, &answers).await, before + counted);
}
