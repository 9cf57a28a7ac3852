//! Rows between the tasks of a job: bounded queues in the process.
//!
//! An exchange leads from every task to every task (or to the first one, if all rows must meet). It carries rows, watermarks,
//! idleness, ends and commit barriers of each sender in their order. No send blocks: what a full queue does not take stays with the
//! sender's [`Outlet`], and the task then takes nothing that would go there: neither from its sources nor from exchanges further up.
//! Exchanges lie in the order of the plan, so the last ones can always be emptied, and no tasks wait for each other in a circle.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sluice_batch::{Batch, Millis, Result, SqlType, WATERMARK_MAX, WATERMARK_NONE};
use sluice_operators::shard::Partitioner;
use sluice_plan::Distribution;

/// Messages that a queue holds for each sender.
const CAPACITY: usize = 8;

/// What goes over an exchange.
#[derive(Clone, Debug)]
pub enum Message {
    Rows(Batch),
    Watermark(Millis),
    /// The sender gives nothing for now and holds no time back.
    Idle,
    /// The sender has no more rows for now: see `Operator::end_of_rows`.
    Exhausted,
    /// The sender has given all it has.
    End,
    /// What follows belongs to the next commit.
    Barrier,
}

/// The queues of all tasks.
pub struct Network {
    inboxes: Vec<Inbox>,
    capacity: usize,
}

struct Inbox {
    queues: Mutex<Queues>,
    wake: Condvar,
}

struct Queues {
    /// By exchange: sender and message.
    lists: Vec<VecDeque<(usize, Message)>>,
    /// Raised by whatever a waiting task must know of.
    news: u64,
}

impl Network {
    pub fn new(tasks: usize, exchanges: usize) -> Self {
        let lists = || (0..exchanges).map(|_| VecDeque::new()).collect();
        let inbox = || Inbox { queues: Mutex::new(Queues { lists: lists(), news: 0 }), wake: Condvar::new() };
        Self { inboxes: (0..tasks).map(|_| inbox()).collect(), capacity: CAPACITY * tasks }
    }

    pub fn tasks(&self) -> usize {
        self.inboxes.len()
    }

    /// Nobody panics between two changes of the queues, so a poisoned lock guards nothing worse than an unpoisoned one.
    fn queues(&self, task: usize) -> MutexGuard<'_, Queues> {
        self.inboxes[task].queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a message over; gives it back if the queue is full.
    fn push(&self, exchange: usize, from: usize, to: usize, message: Message) -> Option<Message> {
        let mut queues = self.queues(to);
        if queues.lists[exchange].len() >= self.capacity {
            return Some(message);
        }
        queues.lists[exchange].push_back((from, message));
        queues.news += 1;
        drop(queues);
        self.inboxes[to].wake.notify_one();
        None
    }

    /// The next message for a task: of the last exchange that has one and is `wanted`.
    pub fn pop(&self, task: usize, wanted: impl Fn(usize) -> bool) -> Option<(usize, usize, Message)> {
        let mut queues = self.queues(task);
        let exchange = (0..queues.lists.len()).rev().find(|e| !queues.lists[*e].is_empty() && wanted(*e))?;
        let full = queues.lists[exchange].len() == self.capacity;
        let (from, message) = queues.lists[exchange].pop_front()?;
        drop(queues);
        if full {
            // Whoever could not send may try again.
            (0..self.tasks()).filter(|t| *t != task).for_each(|t| self.notify(t));
        }
        Some((exchange, from, message))
    }

    /// How much news a task has had so far.
    pub fn news(&self, task: usize) -> u64 {
        self.queues(task).news
    }

    /// Waits until there is other news than `seen`.
    pub fn wait(&self, task: usize, seen: u64, timeout: Duration) {
        let queues = self.queues(task);
        if queues.news == seen {
            drop(self.inboxes[task].wake.wait_timeout(queues, timeout));
        }
    }

    /// Wakes a task.
    pub fn notify(&self, task: usize) {
        self.queues(task).news += 1;
        self.inboxes[task].wake.notify_one();
    }
}

/// Which tasks rows go to.
enum Route {
    /// The first one.
    First,
    All,
    /// That of the row's key.
    Key(Box<Partitioner>),
}

/// The sending end of an exchange in one task.
pub struct Outlet {
    network: Arc<Network>,
    exchange: usize,
    task: usize,
    route: Route,
    /// By receiver: what its queue has not taken yet.
    waiting: Vec<VecDeque<Message>>,
}

impl Outlet {
    /// `distribution`: of columns of these types.
    pub fn new(network: Arc<Network>, exchange: usize, task: usize, types: &[SqlType], distribution: &Distribution) -> Result<Self> {
        let tasks = network.tasks();
        let partitioner = |keys: &[usize]| Partitioner::new(types, keys, tasks as u32);
        let route = match distribution {
            Distribution::Keys(keys) => Route::Key(Box::new(partitioner(keys)?)),
            Distribution::KeyOrAll(key) => Route::Key(Box::new(partitioner(&[*key])?.with_nulls_to_all())),
            Distribution::All => Route::All,
            Distribution::Single | Distribution::Any => Route::First,
        };
        let receivers = if matches!(route, Route::First) { 1 } else { tasks };
        Ok(Self { network, exchange, task, route, waiting: (0..receivers).map(|_| VecDeque::new()).collect() })
    }

    pub fn exchange(&self) -> usize {
        self.exchange
    }

    pub fn rows(&mut self, batch: Batch) -> Result<()> {
        let mut partitioner = match std::mem::replace(&mut self.route, Route::All) {
            Route::Key(partitioner) => partitioner,
            route => {
                self.tell(&Message::Rows(batch));
                self.route = route;
                return Ok(());
            }
        };
        let result = partitioner.split(batch, |task, rows| self.send(task as usize, Message::Rows(rows)));
        self.route = Route::Key(partitioner);
        result
    }

    /// Tells all receivers.
    pub fn tell(&mut self, message: &Message) {
        (0..self.waiting.len()).for_each(|to| self.send(to, message.clone()));
    }

    fn send(&mut self, to: usize, message: Message) {
        if !self.waiting[to].is_empty() {
            return self.waiting[to].push_back(message);
        }
        if let Some(message) = self.network.push(self.exchange, self.task, to, message) {
            self.waiting[to].push_back(message);
        }
    }

    /// Tries again to send what waits. Answers whether nothing does any more.
    pub fn flush(&mut self) -> bool {
        for (to, waiting) in self.waiting.iter_mut().enumerate() {
            while let Some(message) = waiting.pop_front() {
                if let Some(message) = self.network.push(self.exchange, self.task, to, message) {
                    waiting.push_front(message);
                    break;
                }
            }
        }
        self.is_clear()
    }

    pub fn is_clear(&self) -> bool {
        self.waiting.iter().all(VecDeque::is_empty)
    }
}

/// What a message means for the receiver's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    Same,
    Watermark(Millis),
    Idle,
    End,
}

/// The receiving end of an exchange in one task: merges the senders' time.
pub struct Inlet {
    senders: Vec<Sender>,
    watermark: Millis,
    idle: bool,
}

#[derive(Clone, Copy)]
struct Sender {
    watermark: Millis,
    idle: bool,
    ended: bool,
    exhausted: bool,
    barrier: bool,
}

impl Inlet {
    pub fn new(senders: usize) -> Self {
        let sender = Sender { watermark: WATERMARK_NONE, idle: false, ended: false, exhausted: false, barrier: false };
        Self { senders: vec![sender; senders], watermark: WATERMARK_NONE, idle: false }
    }

    /// Takes note of a message that is not rows.
    pub fn time(&mut self, from: usize, message: &Message) -> Time {
        let sender = &mut self.senders[from];
        match message {
            Message::Rows(_) | Message::Exhausted => return Time::Same,
            Message::Barrier => {
                sender.barrier = true;
                return Time::Same;
            }
            Message::Watermark(watermark) => {
                sender.idle = false;
                sender.watermark = sender.watermark.max(*watermark);
            }
            Message::Idle => sender.idle = true,
            Message::End => sender.ended = true,
        }
        self.merge()
    }

    /// A sender has no more rows for now. Answers whether none has.
    pub fn exhausted(&mut self, from: usize) -> bool {
        self.senders[from].exhausted = true;
        self.senders.iter().all(|s| s.exhausted)
    }

    /// Rows came: their sender is not idle.
    pub fn woken(&mut self, from: usize) {
        self.senders[from].idle = false;
        self.idle = false;
    }

    /// The least watermark of the senders that are neither idle nor at their end.
    fn merge(&mut self) -> Time {
        if self.ended() {
            self.watermark = WATERMARK_MAX;
            return Time::End;
        }
        match self.senders.iter().filter(|s| !s.idle && !s.ended).map(|s| s.watermark).min() {
            None if self.idle => Time::Same,
            None => {
                self.idle = true;
                Time::Idle
            }
            Some(least) => {
                self.idle = false;
                if least <= self.watermark {
                    return Time::Same;
                }
                self.watermark = least;
                Time::Watermark(least)
            }
        }
    }

    pub fn ended(&self) -> bool {
        self.senders.iter().all(|s| s.ended)
    }

    /// Whether every sender's barrier has come.
    pub fn at_barrier(&self) -> bool {
        self.senders.iter().all(|s| s.barrier)
    }

    /// The commit is over.
    pub fn pass_barrier(&mut self) {
        self.senders.iter_mut().for_each(|s| s.barrier = false);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow::array::Int64Array;
    use sluice_batch::TypeKind;

    use super::*;

    #[test]
    fn time_is_the_least_of_the_senders() {
        use Message::{Barrier, End, Idle, Watermark as W};
        let steps: &[(&str, &[(usize, Message, Time)])] = &[
            ("all must have one", &[(0, W(5), Time::Same), (1, W(3), Time::Watermark(3)), (1, W(9), Time::Watermark(5))]),
            ("it never falls", &[(0, W(5), Time::Same), (1, W(5), Time::Watermark(5)), (0, W(2), Time::Same)]),
            ("an idle one holds nothing back", &[(0, W(5), Time::Same), (1, Idle, Time::Watermark(5)), (0, W(6), Time::Watermark(6))]),
            (
                "one that wakes holds back again, but time does not fall",
                &[
                    (0, W(5), Time::Same),
                    (1, Idle, Time::Watermark(5)),
                    (1, W(2), Time::Same),
                    (0, W(9), Time::Same),
                    (1, W(7), Time::Watermark(7)),
                ],
            ),
            ("all idle, said once", &[(0, Idle, Time::Same), (1, Idle, Time::Idle), (0, Idle, Time::Same), (1, W(1), Time::Watermark(1))]),
            ("an ended one holds nothing back", &[(1, W(4), Time::Same), (0, End, Time::Watermark(4)), (1, End, Time::End)]),
            ("the end of one is not the end of the idle other", &[(0, End, Time::Same), (1, Idle, Time::Idle), (1, End, Time::End)]),
            ("barriers are no time", &[(0, Barrier, Time::Same), (1, W(1), Time::Same), (0, W(1), Time::Watermark(1))]),
        ];
        for (name, steps) in steps {
            let mut inlet = Inlet::new(2);
            for (at, (from, message, want)) in steps.iter().enumerate() {
                assert_eq!(inlet.time(*from, message), *want, "{name}, step {at}");
            }
        }
    }

    #[test]
    fn rows_wake_an_idle_sender() {
        let mut inlet = Inlet::new(2);
        inlet.time(0, &Message::Idle);
        inlet.time(1, &Message::Idle);
        inlet.woken(0);
        assert_eq!(inlet.time(1, &Message::Watermark(5)), Time::Same);
        assert_eq!(inlet.time(0, &Message::Idle), Time::Watermark(5));
    }

    #[test]
    fn a_barrier_is_there_when_all_have_sent_it() {
        let mut inlet = Inlet::new(2);
        inlet.time(0, &Message::Barrier);
        assert!(!inlet.at_barrier());
        inlet.time(1, &Message::Barrier);
        assert!(inlet.at_barrier());
        inlet.pass_barrier();
        assert!(!inlet.at_barrier());
    }

    fn batch(values: &[i64]) -> Batch {
        Batch::new(vec![Arc::new(Int64Array::from(values.to_vec()))], values.len())
    }

    #[test]
    fn a_full_queue_keeps_the_order_and_wakes_its_senders() {
        let network = Arc::new(Network::new(2, 1));
        let mut outlet = Outlet::new(network.clone(), 0, 1, &[TypeKind::BigInt.not_null()], &Distribution::Single).unwrap();
        let count = CAPACITY as i64 * 2 + 3;
        for i in 0..count {
            outlet.rows(batch(&[i])).unwrap();
        }
        outlet.tell(&Message::Barrier);
        assert!(!outlet.flush() && !outlet.is_clear());
        let (mut got, seen) = (vec![], network.news(1));
        while let Some((0, 1, message)) = network.pop(0, |_| true) {
            outlet.flush();
            got.push(format!("{:?}", if let Message::Rows(b) = &message { b.rows() } else { 0 }));
        }
        assert_eq!(got.len() as i64, count + 1);
        assert_eq!(got.last().unwrap(), "0");
        assert!(outlet.is_clear() && network.news(1) > seen);
    }

    #[test]
    fn later_exchanges_first_and_only_wanted_ones() {
        let network = Network::new(1, 3);
        for exchange in 0..3 {
            assert!(network.push(exchange, 0, 0, Message::Idle).is_none());
        }
        assert!(matches!(network.pop(0, |e| e != 2), Some((1, 0, Message::Idle))));
        assert!(matches!(network.pop(0, |_| true), Some((2, ..))));
        assert!(network.pop(0, |e| e != 0).is_none());
    }

    #[test]
    fn keys_meet_in_one_task() {
        let network = Arc::new(Network::new(3, 1));
        let types = [TypeKind::BigInt.not_null()];
        let mut outlets: Vec<_> =
            (0..3).map(|t| Outlet::new(network.clone(), 0, t, &types, &Distribution::Keys(vec![0])).unwrap()).collect();
        outlets.iter_mut().for_each(|o| o.rows(batch(&[1, 2, 3, 4, 5, 6, 7, 8])).unwrap());
        let mut rows = [0; 3];
        for (task, rows) in rows.iter_mut().enumerate() {
            while let Some((_, _, Message::Rows(b))) = network.pop(task, |_| true) {
                *rows += b.rows();
            }
        }
        assert_eq!(rows.iter().sum::<usize>(), 24);
        assert!(rows.iter().all(|r| r % 3 == 0) && rows.iter().filter(|r| **r > 0).count() > 1, "{rows:?}");
    }
}
