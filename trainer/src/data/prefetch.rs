//! Batches gathered ahead, on a thread of the loader.
//!
//! In: a [`Gather`], and requests for positions. Out: the batches from the requested position to the end of its epoch,
//! in order, at most `n` ahead of the consumer. A new request discards what an earlier one has left.
//!
//! The thread blocks in two places only: waiting for a request, and waiting for room for a batch. Both end when the
//! consumer drops its ends of the channels, so that dropping waits for at most one batch.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

use fulgurite_jit::{Error, Result, Tree};
use fulgurite_runtime::{Device, with_device};

use super::gather::Gather;

/// A position in the data, and the number of the request for it.
#[derive(Clone, Copy, Debug)]
struct Request {
    number: u64,
    epoch: usize,
    batch: usize,
}

/// A batch, the number of its examples, and the number of the request that it is for.
type Reply<B> = (u64, Result<(B, usize)>);

/// The consumer's side.
pub(super) struct Prefetch<B> {
    /// `None` once dropped.
    channels: Option<(Sender<Request>, Receiver<Reply<B>>)>,
    thread: Option<JoinHandle<()>>,
    /// The number of the last request.
    number: u64,
    /// The position of the next batch to be received.
    expected: Option<(usize, usize)>,
}

impl<B: Tree + Clone + Send + 'static> Prefetch<B> {
    /// Starts the thread. `n`, at least 1, is how many batches are gathered ahead; an epoch has `count`.
    pub(super) fn start(gather: Gather<B>, n: usize, count: usize) -> Result<Self> {
        let (request, requests) = channel();
        // A batch that waits for room is ahead as well.
        let (reply, replies) = sync_channel(n - 1);
        let thread =
            Builder::new().name("fulgurite-loader".into()).spawn(move || run(gather, count, &requests, &reply));
        let thread =
            thread.map_err(|e| Error::new(format!("data loader: cannot start the thread of `prefetch`: {e}")))?;
        Ok(Prefetch { channels: Some((request, replies)), thread: Some(thread), number: 0, expected: None })
    }
}

impl<B> Prefetch<B> {
    /// Starts gathering at a position, unless that is what comes next.
    pub(super) fn request(&mut self, epoch: usize, batch: usize) {
        if self.expected == Some((epoch, batch)) {
            return;
        }
        self.number += 1;
        self.expected = Some((epoch, batch));
        if let Some((requests, _)) = &self.channels {
            // Where the thread has ended, receiving says so.
            let _ = requests.send(Request { number: self.number, epoch, batch });
        }
    }

    /// Batch `batch` of epoch `epoch`.
    pub(super) fn batch(&mut self, epoch: usize, batch: usize) -> Result<(B, usize)> {
        self.request(epoch, batch);
        self.expected = Some((epoch, batch + 1));
        let Some((_, replies)) = &self.channels else { return Err(ended()) };
        loop {
            match replies.recv() {
                Ok((number, reply)) if number == self.number => return reply,
                Ok(_) => {} // of an earlier request
                Err(_) => return Err(ended()),
            }
        }
    }
}

impl<B> Drop for Prefetch<B> {
    fn drop(&mut self) {
        // Ends both waits of the thread.
        self.channels = None;
        if let Some(thread) = self.thread.take() {
            // It catches the panics of the dataset.
            drop(thread.join());
        }
    }
}

fn ended() -> Error {
    Error::new("data loader: the thread of `prefetch` has ended")
}

/// The thread.
fn run<B: Tree + Clone + Send + 'static>(
    mut gather: Gather<B>,
    count: usize,
    requests: &Receiver<Request>,
    replies: &SyncSender<Reply<B>>,
) {
    let mut current: Option<Request> = None;
    loop {
        // The last request counts.
        if let Some(request) = requests.try_iter().last() {
            current = Some(request);
        }
        let Some(Request { number, epoch, batch }) = current.take_if(|request| request.batch < count) else {
            match requests.recv() {
                Ok(request) => current = Some(request),
                Err(_) => return,
            }
            continue;
        };
        // Ops of the dataset run on the processor, also beside a run on a GPU: `with_device` holds for its thread.
        let gathered = catch_unwind(AssertUnwindSafe(|| with_device(Device::Cpu, || gather.batch(epoch, batch))?));
        let reply = gathered.unwrap_or_else(|payload| {
            let message = message(payload.as_ref());
            Err(Error::new(format!("batch {batch} of epoch {epoch}: the dataset has panicked: {message}")))
        });
        if replies.send((number, reply)).is_err() {
            return;
        }
        current = Some(Request { number, epoch, batch: batch + 1 });
    }
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}
