//! Takes the cluster's state from its members, instead of executing their log: see [`phala_replica::Newcomer`].
//!
//! 1. All members are asked for the state of an entry a little ahead. Those that offer the same one are its sources.
//! 2. The pieces that the own disk lacks are asked for, several questions at once and of all sources in turn, and put
//!    into a file beside the state: first a copy of the own older state, or what an attempt that was broken off has left.
//! 3. A source that fails, or gives what is not the piece, is asked no more. What it owed is asked of the others.
//! 4. The whole file takes the place of the state, and the entry log begins anew above it.
//!
//! Memory: [`PARALLEL`] answers at most, of four MiB each and whatever one value is larger.

use crate::{
    service::now_ms,
    start::{blocking, read},
};
use futures::{StreamExt, future::join_all, stream::FuturesUnordered};
use phala_primitives::{Code, Coded, PublicKey, records::Anchor};
use phala_replica::{Newcomer, Offer};
use phala_state::{FileBackend, Item, Restore};
use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

/// How far ahead the state lies that is asked for, in milliseconds: until then all members have heard of it.
const AHEAD_MS: u64 = 1_000;
/// Time for an offer, and for pieces.
const OFFER: Duration = Duration::from_secs(40);
const PIECES: Duration = Duration::from_secs(60);
/// Largest answer, in bytes: pieces up to four MiB, and a value that does not fit into that.
pub(crate) const MAX_ANSWER: usize = 64 << 20;
/// Questions under way at once.
const PARALLEL: usize = 4;
/// Pieces that one question is about.
const RUN: u16 = 256;
/// How often is told how far it is.
const TOLD: Duration = Duration::from_secs(5);

/// From whom, and of which epoch.
pub(crate) struct Sources {
    /// The members' URLs.
    pub(crate) urls: Vec<String>,
    pub(crate) epoch: u64,
    /// Identities that vote in that epoch.
    pub(crate) members: Vec<PublicKey>,
    /// What the chain was shown: the state is not to be older.
    pub(crate) shown: Anchor,
}

/// Where the state and the entry log of a replica lie.
pub(crate) struct Files {
    pub(crate) state: PathBuf,
    pub(crate) entries: PathBuf,
}

impl Files {
    /// Where the state is put together.
    fn next(&self) -> PathBuf {
        self.state.with_extension("next")
    }

    /// The file in which the state is put together.
    fn begin(&self) -> io::Result<FileBackend> {
        let next = self.next();
        if !next.exists() && self.state.exists() {
            let unfinished = next.with_extension("copy");
            std::fs::copy(&self.state, &unfinished)?;
            std::fs::rename(&unfinished, &next)?;
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(next)?;
        FileBackend::new(file).map_err(io::Error::other)
    }

    /// Replaces state and entry log. Killed in between, the entry log is of an older state, and is cut at the next start.
    fn replace(&self) -> io::Result<()> {
        if self.entries.exists() {
            std::fs::remove_dir_all(&self.entries)?;
        }
        std::fs::rename(self.next(), &self.state)?;
        let folder = self.state.parent().unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}

fn failed(error: &io::Error) -> Coded {
    Coded::new(Code::StorageFailed, format!("the copy of the state: {error}"))
}

/// Takes the newest state. Returns the highest entry that is known to be above it; the log is to be had from there.
///
/// Errors: `NotReady` if no member offers its state, or none goes on to; nothing has changed then, and what was put
/// together is used by the next attempt.
pub(crate) async fn take(newcomer: Newcomer, from: Sources, files: Files) -> Result<Anchor, Coded> {
    let http = reqwest::Client::new();
    let (offer, urls) = offers(&http, &newcomer, &from).await?;
    let newcomer = Arc::new(newcomer);
    let (maker, wanted) = (newcomer.clone(), offer.clone());
    let files = Arc::new(files);
    let own = files.clone();
    let restore = blocking(move || {
        let begin = || maker.restore(&wanted, own.begin().map_err(|error| failed(&error))?);
        begin().or_else(|_| {
            // What lies there is of no use.
            std::fs::remove_file(own.next()).map_err(|error| failed(&error))?;
            begin()
        })
    })
    .await?;
    let restore = Arc::new(restore);
    let transfer = Transfer { http, newcomer: newcomer.clone(), offer: offer.clone(), epoch: from.epoch, restore };
    let restore = transfer.run(urls).await?;
    let named_by = offer.named_by();
    blocking(move || {
        newcomer.finish(&offer, restore)?;
        files.replace().map_err(|error| failed(&error))
    })
    .await?;
    Ok(named_by)
}

/// Asks one member.
async fn ask(http: &reqwest::Client, url: &str, question: Vec<u8>, time: Duration) -> Option<Vec<u8>> {
    let response = http.post(format!("{url}/v1/copy")).body(question).timeout(time).send().await.ok()?;
    read(response, MAX_ANSWER).await
}

/// The newest state that most members offer, and which ones they are.
async fn offers(
    http: &reqwest::Client,
    newcomer: &Newcomer,
    from: &Sources,
) -> Result<(Offer, VecDeque<String>), Coded> {
    let sent_ms = now_ms();
    let question = newcomer.ask_offer(from.epoch, sent_ms.saturating_add(AHEAD_MS), sent_ms)?;
    let question = &question;
    let asked = from.urls.iter().map(|url| async move {
        let answer = ask(http, url, question.clone(), OFFER).await?;
        match newcomer.offer(&answer, from.epoch, &from.members, &from.shown) {
            Ok(offer) => Some((url.clone(), offer)),
            Err(error) => {
                tracing::info!(%url, %error, "an offer is not believed");
                None
            }
        }
    });
    let offers: Vec<(String, Offer)> = join_all(asked).await.into_iter().flatten().collect();
    let weight =
        |offer: &Offer| (offers.iter().filter(|(_, other)| other.of() == offer.of()).count(), offer.of().height);
    let best = offers.iter().map(|(_, offer)| offer).max_by_key(|offer| weight(offer)).cloned();
    let best = best.ok_or_else(|| Coded::new(Code::NotReady, "no member of the cluster offers its state"))?;
    let urls = offers.iter().filter(|(_, offer)| offer.of() == best.of()).map(|(url, _)| url.clone()).collect();
    Ok((best, urls))
}

/// Contiguous numbers, at most [`RUN`] in each.
fn runs(pieces: &[u16]) -> VecDeque<Range<u16>> {
    let mut runs: VecDeque<Range<u16>> = VecDeque::new();
    for piece in pieces {
        match runs.back_mut() {
            Some(run) if run.end == *piece && run.end - run.start < RUN => run.end += 1,
            _ => runs.push_back(*piece..piece.saturating_add(1)),
        }
    }
    runs
}

/// Pieces on their way.
struct Transfer {
    http: reqwest::Client,
    newcomer: Arc<Newcomer>,
    offer: Offer,
    epoch: u64,
    restore: Arc<Restore>,
}

impl Transfer {
    /// Fetches all that is missing from these members.
    async fn run(self, mut urls: VecDeque<String>) -> Result<Restore, Coded> {
        let restore = self.restore.clone();
        let missing = blocking(move || restore.missing().map_err(|e| Coded::new(e.code(), e.to_string()))).await?;
        let (mut runs, all) = (runs(&missing), missing.len());
        let mut under_way = FuturesUnordered::new();
        let (mut bytes, mut done, mut told, begun) = (0usize, 0usize, Instant::now(), Instant::now());
        tracing::info!(
            height = self.offer.of().height,
            pieces = all,
            members = urls.len(),
            "takes the cluster's state"
        );
        loop {
            while under_way.len() < PARALLEL
                && let Some(url) = urls.front().cloned()
                && let Some(run) = runs.pop_front()
            {
                urls.rotate_left(1);
                under_way.push(self.fetch(url, run));
            }
            let Some((url, run, fetched)) = under_way.next().await else { break };
            match fetched {
                Ok((next, size)) => {
                    (bytes, done) = (bytes.saturating_add(size), done.saturating_add(usize::from(next - run.start)));
                    if next < run.end {
                        runs.push_front(next..run.end);
                    }
                }
                Err(error) => {
                    tracing::info!(%url, %error, "a member gives no more of its state");
                    urls.retain(|other| *other != url);
                    runs.push_front(run);
                }
            }
            if told.elapsed() >= TOLD {
                told = Instant::now();
                tracing::info!(done, pieces = all, mib = bytes >> 20, "takes the cluster's state");
            }
        }
        if !runs.is_empty() {
            return Err(Coded::new(Code::NotReady, "no member of the cluster gives the rest of its state"));
        }
        tracing::info!(mib = bytes >> 20, seconds = begun.elapsed().as_secs(), "has the cluster's state");
        drop(under_way);
        Arc::into_inner(self.restore).ok_or_else(|| Code::Internal.into())
    }

    /// Fetches pieces from one member and puts them. Returns the first one that it did not get, and the size of what it
    /// did.
    async fn fetch(&self, url: String, run: Range<u16>) -> (String, Range<u16>, Result<(u16, usize), Coded>) {
        let put = async {
            let question = self.newcomer.ask_pieces(self.epoch, &self.offer, run.clone(), now_ms())?;
            let answer = ask(&self.http, &url, question, PIECES).await;
            let answer = answer.ok_or_else(|| Coded::new(Code::NotReady, "it does not answer"))?;
            let (newcomer, restore, run, size) =
                (self.newcomer.clone(), self.restore.clone(), run.clone(), answer.len());
            blocking(move || {
                let pieces: Vec<(u16, Vec<Item>)> = newcomer.pieces(&answer)?;
                let asked = pieces.iter().zip(run.clone()).all(|((piece, _), wanted)| *piece == wanted);
                if !asked || pieces.is_empty() || pieces.len() > run.len() {
                    return Err(Coded::new(Code::Malformed, "it answers something else"));
                }
                restore.put(&pieces).map_err(|error| Coded::new(error.code(), error.to_string()))?;
                Ok((run.start.saturating_add(pieces.len() as u16), size))
            })
            .await
        };
        let put = put.await;
        (url, run, put)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_contiguous_and_bounded() {
        assert_eq!(runs(&[]), vec![]);
        assert_eq!(runs(&[1, 2, 3, 7, 9, 10]), vec![1..4, 7..8, 9..11]);
        let all: Vec<u16> = (0..4096).collect();
        assert!(runs(&all).iter().all(|run| run.len() == usize::from(RUN)) && runs(&all).len() == 16);
    }
}
