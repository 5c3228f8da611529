//! The listening socket and its connections, which all end with the worker: axum gives each connection a task of its
//! own, and nobody else would end those.
//!
//! There are no more of them than the process has files to spare for: whoever opens connections for their own sake must not
//! keep the consensus from its journals. One on which nothing is said for long makes room; until then, new ones wait.

use axum::serve::Listener;
use rustix::process::{Resource, getrlimit};
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Most connections of a worker, if its process may have that many files; and what share of its files they are at most: a
/// process may hold several workers, and clients of theirs.
const MOST: u64 = 4096;
const SHARE: u64 = 8;
/// Longest silence on a connection: more than any query may take, whose caller waits for nothing but the answer.
const SILENCE: Duration = Duration::from_secs(15 * 60);

/// A listener whose connections break when `shut` is cancelled.
pub(crate) struct Door {
    listener: TcpListener,
    shut: CancellationToken,
    room: Arc<Semaphore>,
    silence: Duration,
}

impl Door {
    /// One for as many connections as the process can well have.
    pub(crate) fn new(listener: TcpListener, shut: CancellationToken) -> Self {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let connections = usize::try_from((files / SHARE).clamp(1, MOST)).unwrap_or(1);
        Self { listener, shut, room: Arc::new(Semaphore::new(connections)), silence: SILENCE }
    }
}

impl Listener for Door {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // It is never closed.
        let permit = self.room.clone().acquire_owned().await.ok();
        let (stream, from) = Listener::accept(&mut self.listener).await;
        // Replies are small and awaited. Without the option they are slower, not wrong.
        let _ = stream.set_nodelay(true);
        let shut = Box::pin(self.shut.clone().cancelled_owned());
        let (silence, heard) = (self.silence, Instant::now());
        (Connection { stream, shut, silence, heard, alarm: Box::pin(sleep(silence)), _permit: permit }, from)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A client's connection. Whoever has it always reads; once the door is shut, or nothing was said for long, that fails, and
/// it is dropped.
pub(crate) struct Connection {
    stream: TcpStream,
    shut: Pin<Box<WaitForCancellationFutureOwned>>,
    silence: Duration,
    /// When something last was read or written.
    heard: Instant,
    alarm: Pin<Box<Sleep>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// Whether nothing was said for long. If not, the task is woken when that may be so.
    fn is_silent(&mut self, context: &mut Context<'_>) -> bool {
        while self.alarm.as_mut().poll(context).is_ready() {
            if self.heard.elapsed() >= self.silence {
                return true;
            }
            let next = self.heard + self.silence;
            self.alarm.as_mut().reset(next);
        }
        false
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.shut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Pending if self.is_silent(context) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
            read => {
                self.heard = Instant::now();
                read
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        self.heard = Instant::now();
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices));
        self.heard = Instant::now();
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A door of a silence with room for two, and its address.
    async fn door(silence: Duration) -> (Door, SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shut) = (listener.local_addr().unwrap(), CancellationToken::new());
        let room = Arc::new(Semaphore::new(2));
        (Door { listener, shut: shut.clone(), room, silence }, address, shut)
    }

    #[tokio::test]
    async fn who_finds_no_room_waits_until_there_is_some() {
        let (mut door, address, _shut) = door(SILENCE).await;
        let clients = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let (first, _) = door.accept().await;
        let (_second, _) = door.accept().await;
        let mut third = TcpStream::connect(address).await.unwrap();
        third.write_all(b"x").await.unwrap();
        let waits = tokio::time::timeout(Duration::from_millis(50), door.accept()).await;
        assert!(waits.is_err(), "there is no room");
        drop(first);
        let (mut accepted, _) = door.accept().await;
        assert_eq!(accepted.read_u8().await.unwrap(), b'x');
        drop(clients);
    }

    #[tokio::test]
    async fn a_connection_breaks_after_silence_and_when_the_door_is_shut() {
        let silence = Duration::from_millis(200);
        let (mut door, address, shut) = door(silence).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        let (mut silent, _) = door.accept().await;
        let begin = Instant::now();
        for _ in 0..5 {
            sleep(silence / 4).await;
            client.write_all(b"x").await.unwrap();
            assert_eq!(silent.read_u8().await.unwrap(), b'x');
        }
        let said = Instant::now();
        assert!(begin.elapsed() > silence);
        assert_eq!(silent.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(said.elapsed() + Duration::from_millis(5) >= silence, "{:?}", said.elapsed());
        let _other = TcpStream::connect(address).await.unwrap();
        let (mut open, _) = door.accept().await;
        shut.cancel();
        assert_eq!(open.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }
}
