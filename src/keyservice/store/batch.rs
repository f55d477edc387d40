// SPDX-License-Identifier: Apache-2.0
//! Reads of several threads in one question: while some questions are on their way, the next reads wait for each other.
//!
//! A store on another machine answers a question about many keys nearly as fast as one about a single key, so the more
//! boots there are at once, the less each of them costs it. Who comes while there is a place asks at once and waits for
//! nobody. A question leaves after every read in it has begun, so reads are as linearizable as the question is.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Exit, Result};
use crate::keyservice::store::Entry;

/// What is known of each key of a read.
type Answer = Result<Vec<Option<Entry>>>;

/// Questions on their way at once. The fewer there are, the more reads are in each; and while one of two is slow the
/// other one's place still goes from hand to hand.
const QUESTIONS_MAX: usize = 2;

/// Where reads wait.
#[derive(Debug)]
pub(crate) struct ReadBatcher {
    /// How many keys a question may be about.
    keys_max: usize,
    queue: Mutex<Queue>,
}

/// Nobody waits while there is a place for a question.
#[derive(Debug, Default)]
struct Queue {
    questions: usize,
    /// How many have been answered so far.
    answered: u64,
    reads: VecDeque<Read>,
}

/// What one thread wants to know.
#[derive(Debug)]
struct Read {
    keys: Vec<String>,
    thread: Sender<Turn>,
}

/// What a thread that waits is told.
#[derive(Debug)]
enum Turn {
    /// What it wanted to know.
    Answer(Answer),
    /// To ask for all of these; its own is the first.
    Ask(Vec<Read>),
}

impl ReadBatcher {
    pub(crate) fn new(keys_max: usize) -> Self {
        Self {
            keys_max,
            queue: Mutex::default(),
        }
    }

    /// The values of `keys`, in the same order, by a question of this thread or of another one. A read that takes several
    /// questions by itself is left to `ask`, and nobody waits for it.
    pub(crate) fn read(&self, keys: &[String], ask: impl FnOnce(&[String]) -> Answer) -> Answer {
        if keys.is_empty() || keys.len() > self.keys_max {
            return ask(keys);
        }
        let (thread, turns) = channel();
        let own = Read {
            keys: keys.to_vec(),
            thread,
        };
        let reads = match self.enter(own) {
            Some(reads) => reads,
            None => match wait(&turns)? {
                Turn::Ask(reads) => reads,
                Turn::Answer(answer) => return answer,
            },
        };
        let slot = QuestionSlot {
            batcher: self,
            answered_before: self.lock().answered,
        };
        let keys: Vec<String> = reads.iter().flat_map(|read| read.keys.clone()).collect();
        let answer = ask(&keys);
        slot.ends(&answer);
        distribute(reads, answer);
        match wait(&turns)? {
            Turn::Answer(answer) => answer,
            Turn::Ask(_) => Err(Error::failure("a read was asked for twice")),
        }
    }

    /// What to ask for at once, or nothing where the read has to wait.
    fn enter(&self, read: Read) -> Option<Vec<Read>> {
        let mut queue = self.lock();
        if queue.questions < QUESTIONS_MAX {
            queue.questions = queue.questions.saturating_add(1);
            return Some(vec![read]);
        }
        queue.reads.push_back(read);
        None
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// As many of the reads that wait as have at most `keys_max` keys.
    fn first(&mut self, keys_max: usize) -> Vec<Read> {
        let mut keys = 0_usize;
        let fit = |read: &&Read| {
            keys = keys.saturating_add(read.keys.len());
            keys <= keys_max
        };
        let count = self.reads.iter().take_while(fit).count();
        self.reads.drain(..count).collect()
    }
}

/// The place of a question, handed to the first that waits when it is dropped.
struct QuestionSlot<'a> {
    batcher: &'a ReadBatcher,
    answered_before: u64,
}

impl QuestionSlot<'_> {
    /// Where the store answered nobody since this question left, whoever waits behind it would hear the same after as long
    /// a time again, and so on: they are told now.
    fn ends(self, answer: &Answer) {
        let mut queue = self.batcher.lock();
        match answer {
            Ok(_) => queue.answered = queue.answered.wrapping_add(1),
            Err(error)
                if error.exit() == Exit::Temporary && queue.answered == self.answered_before =>
            {
                let reads = std::mem::take(&mut queue.reads);
                distribute(reads.into(), Err(Error::new(error.exit(), error)));
            }
            Err(_) => {}
        }
    }
}

impl Drop for QuestionSlot<'_> {
    fn drop(&mut self) {
        let mut queue = self.batcher.lock();
        let next = queue.first(self.batcher.keys_max);
        match next.first().map(|read| read.thread.clone()) {
            Some(thread) => send(&thread, Turn::Ask(next)),
            None => queue.questions = queue.questions.saturating_sub(1),
        }
    }
}

/// Gives each read its part of the answer.
fn distribute(reads: Vec<Read>, answer: Answer) {
    let mut answer = answer.map(Vec::into_iter);
    for read in reads {
        let part = match &mut answer {
            Ok(entries) => Ok(entries.take(read.keys.len()).collect()),
            Err(error) => Err(Error::new(error.exit(), error)),
        };
        send(&read.thread, Turn::Answer(part));
    }
}

/// Whoever waits does so until told.
fn send(thread: &Sender<Turn>, turn: Turn) {
    if thread.send(turn).is_err() {
        log::error!("nobody waits for what was read from the store");
    }
}

fn wait(turns: &Receiver<Turn>) -> Result<Turn> {
    turns
        .recv()
        .map_err(|_gone| Error::failure("whoever asked for this read did not answer"))
}

#[cfg(test)]
#[path = "tests/batch.rs"]
mod tests;
