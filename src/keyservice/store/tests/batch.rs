// SPDX-License-Identifier: Apache-2.0
//! Reads that wait for each other, with questions that are answered when the test says so.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::clock::limit;

const KEYS_MAX: usize = 4;

/// What each key holds here: itself.
fn entries(keys: &[String]) -> Vec<Option<Entry>> {
    let entry = |key: &String| Entry {
        key: key.clone(),
        value: key.clone().into_bytes(),
        revision: 1,
    };
    keys.iter().map(|key| Some(entry(key))).collect()
}

fn keys(of: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{of}/{n}")).collect()
}

/// A question on its way, and what answers it.
type Question = (Vec<String>, Sender<Answer>);

type Handle<'scope> = thread::ScopedJoinHandle<'scope, Answer>;

/// Threads that read, and the questions they ask.
struct Reading<'scope, 'env> {
    batcher: &'env ReadBatcher,
    scope: &'scope thread::Scope<'scope, 'env>,
    asks: Sender<Question>,
    asked: Receiver<Question>,
}

impl<'scope, 'env> Reading<'scope, 'env> {
    fn new(batcher: &'env ReadBatcher, scope: &'scope thread::Scope<'scope, 'env>) -> Self {
        let (asks, asked) = channel();
        Self {
            batcher,
            scope,
            asks,
            asked,
        }
    }

    fn read(&self, keys: Vec<String>) -> Handle<'scope> {
        let (batcher, asks) = (self.batcher, self.asks.clone());
        self.scope.spawn(move || {
            batcher.read(&keys, |keys| {
                let (answers, answer) = channel();
                asks.send((keys.to_vec(), answers)).unwrap();
                answer.recv().unwrap()
            })
        })
    }

    /// Reads whose questions are on their way and take all places.
    fn take_places(&self) -> Vec<(Handle<'scope>, Question)> {
        let read = |n: usize| (self.read(keys(&n.to_string(), 1)), self.next());
        (0..QUESTIONS_MAX).map(read).collect()
    }

    /// Reads of so many keys each, which wait in this order.
    fn wait(&self, lens: &[usize]) -> Vec<(Handle<'scope>, Vec<String>)> {
        let wait = |(count, len): (usize, &usize)| {
            let keys = keys(&format!("waiting-{count}"), *len);
            let read = self.read(keys.clone());
            self.until_waiting(count);
            (read, keys)
        };
        (1..).zip(lens).map(wait).collect()
    }

    fn next(&self) -> Question {
        self.asked
            .recv_timeout(limit(Duration::from_secs(20)))
            .unwrap()
    }

    /// Until so many reads wait.
    fn until_waiting(&self, count: usize) {
        let deadline = Instant::now() + limit(Duration::from_secs(20));
        while self.batcher.lock().reads.len() != count {
            assert!(Instant::now() < deadline, "{:?}", self.batcher);
            thread::yield_now();
        }
    }
}

fn answer((keys, answers): Question) {
    answers.send(Ok(entries(&keys))).unwrap();
}

/// Answers each question and sees that its read hears of it.
fn answer_each(reads: Vec<(Handle<'_>, Question)>) {
    for (read, question) in reads {
        let keys = question.0.clone();
        answer(question);
        assert_eq!(read.join().unwrap().unwrap(), entries(&keys));
    }
}

#[test]
fn who_comes_while_there_is_a_place_waits_for_nobody() {
    let batcher = ReadBatcher::new(KEYS_MAX);
    thread::scope(|scope| {
        let reading = Reading::new(&batcher, scope);
        // Each is on its way before any is answered.
        let reads = reading.take_places();
        for (n, (_, question)) in reads.iter().enumerate() {
            assert_eq!(question.0, keys(&n.to_string(), 1));
        }
        answer_each(reads);
        // And whoever comes later asks for himself again.
        let read = reading.read(keys("later", 2));
        let question = reading.next();
        assert_eq!(question.0, keys("later", 2));
        answer(question);
        assert_eq!(read.join().unwrap().unwrap().len(), 2);
    });
    assert_eq!(batcher.lock().questions, 0);
}

#[test]
fn reads_that_wait_are_asked_for_together_and_each_hears_of_its_own_keys() {
    let batcher = ReadBatcher::new(KEYS_MAX);
    thread::scope(|scope| {
        let reading = Reading::new(&batcher, scope);
        let mut first = reading.take_places();
        // Two and one, then three and one, since there would be one too many, then the last.
        let waiting = reading.wait(&[2, 1, 3, 1, 1]);
        answer_each(vec![first.remove(0)]);
        let mut expected = waiting.iter().map(|(_, keys)| keys.clone());
        let mut together = |count: usize| expected.by_ref().take(count).flatten().collect();
        for count in [2, 2, 1] {
            let question = reading.next();
            let keys: Vec<String> = together(count);
            assert_eq!(question.0, keys);
            answer(question);
        }
        for (read, keys) in waiting {
            assert_eq!(read.join().unwrap().unwrap(), entries(&keys));
        }
        // What takes several questions anyway waits for nobody, and nobody waits for it.
        let long = keys("long", KEYS_MAX + 1);
        let read = reading.read(long.clone());
        let question = reading.next();
        assert_eq!(question.0, long);
        answer(question);
        assert_eq!(read.join().unwrap().unwrap(), entries(&long));
        answer_each(first);
    });
    assert_eq!(batcher.lock().questions, 0);
}

#[test]
fn where_nobody_is_answered_everybody_who_waits_is_told() {
    let batcher = ReadBatcher::new(KEYS_MAX);
    thread::scope(|scope| {
        let reading = Reading::new(&batcher, scope);
        let mut first = reading.take_places();
        // More than fit in one question.
        let waiting = reading.wait(&[KEYS_MAX; 3]);
        let (read, (_, answers)) = first.remove(0);
        answers.send(Err(Error::temporary("gone"))).unwrap();
        let waiting = waiting.into_iter().map(|(read, _)| read);
        for read in waiting.chain([read]) {
            let error = read.join().unwrap().unwrap_err();
            let told = (error.exit(), error.to_string());
            assert_eq!(told, (Exit::Temporary, "gone".to_owned()));
        }
        // The other questions are none of its business, and whoever comes now asks.
        answer_each(first);
        let read = reading.read(keys("later", 1));
        answer(reading.next());
        assert_eq!(read.join().unwrap().unwrap().len(), 1);
    });
    assert_eq!(batcher.lock().questions, 0);
}

#[test]
fn an_error_is_nobody_elses_business_where_others_were_answered_or_it_is_no_outage() {
    for (error, is_answered) in [
        (Error::temporary("gone"), true),
        (Error::failure("no JSON"), false),
    ] {
        let batcher = ReadBatcher::new(KEYS_MAX);
        thread::scope(|scope| {
            let reading = Reading::new(&batcher, scope);
            let mut first = reading.take_places();
            let waiting = reading.wait(&[KEYS_MAX; 3]);
            let (failed, (_, answers)) = first.remove(0);
            let mut asked = Vec::new();
            if is_answered {
                answer_each(vec![first.remove(0)]);
                asked.push(reading.next());
            }
            answers.send(Err(error)).unwrap();
            assert!(failed.join().unwrap().is_err());
            let left = waiting.len() - asked.len();
            asked.into_iter().for_each(answer);
            // Each is in a question of its own.
            for _ in 0..left {
                answer(reading.next());
            }
            for (read, keys) in waiting {
                assert_eq!(read.join().unwrap().unwrap(), entries(&keys));
            }
            answer_each(first);
        });
    }
}
