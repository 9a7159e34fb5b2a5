//! Writing a recording.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::rc::Rc;

use flate2::Compression;
use flate2::write::DeflateEncoder;

use super::{BATCH, Batch, END, End, HEAD, Head, MAGIC};
use crate::trace::event::{Event, Sign};
use crate::trace::render::netfilter;
use crate::trace::rules::{self, Answers, Question};

/// Finds the function that a code address is in.
pub type Functions = Rc<dyn Fn(u64) -> Option<String>>;

/// Who is asked while a recording is written, because nobody can be later.
pub struct Sources {
    /// For the functions that drop.
    pub functions: Functions,
    /// For the firewall's rules.
    pub answers: Answers,
}

/// Writes a recording.
pub struct Recorder {
    out: Box<dyn Write>,
    sources: Sources,
    known: HashSet<u64>,
    answered: HashMap<Question, String>,
    /// What a journey would ask if it ended now, at the hook that it passed last.
    hooks: HashMap<u64, Question>,
    batch: Batch,
    /// Time of the batch's first event.
    since: u64,
}

/// A block holds no more events than this.
const MOST: usize = 4096;
/// No event waits longer to be written, in nanoseconds.
const LONGEST_WAIT: u64 = 1_000_000_000;

impl Recorder {
    /// Begins a recording.
    ///
    /// # Errors
    /// The writer's.
    pub fn new(mut out: Box<dyn Write>, head: &Head, sources: Sources) -> io::Result<Recorder> {
        out.write_all(&MAGIC)?;
        let mut recorder = Recorder {
            out,
            sources,
            known: HashSet::new(),
            answered: HashMap::new(),
            hooks: HashMap::new(),
            batch: Batch::default(),
            since: 0,
        };
        recorder.block(HEAD, &serde_json::to_vec(head)?)?;
        Ok(recorder)
    }

    /// Takes the next event.
    ///
    /// # Errors
    /// The writer's.
    pub fn event(&mut self, event: &Event) -> io::Result<()> {
        if let Sign::Dropped { location, .. } = event.sign
            && self.known.insert(location)
            && let Some(name) = (self.sources.functions)(location)
        {
            self.batch.functions.push((location, name));
        }
        for &address in &event.stack {
            if self.known.insert(address)
                && let Some(name) = (self.sources.functions)(address)
            {
                self.batch.functions.push((address, name));
            }
        }
        self.ask(event);
        if self.batch.events.is_empty() {
            self.since = event.time;
        }
        self.batch.events.push(event.clone());
        match self.batch.events.len() {
            MOST => self.flush(),
            _ => Ok(()),
        }
    }

    /// Asks what can't be asked later.
    fn ask(&mut self, event: &Event) {
        if let Some(hook) = &event.hook {
            match rules::of_hook(hook, netfilter::chain(hook), rules::netns(event)) {
                Some(question) => {
                    // Journeys that passed and went on would stay here.
                    if self.hooks.len() >= MOST {
                        self.hooks.clear();
                    }
                    self.hooks.insert(event.journey, question)
                }
                None => self.hooks.remove(&event.journey),
            };
        }
        let question = match (&event.rule, event.sign) {
            (Some(rule), _) => rules::of_rule(rule, rules::netns(event)),
            (_, Sign::Dropped { .. }) => self.hooks.remove(&event.journey),
            _ => None,
        };
        if let Some(question) = question
            && let Some(text) = (self.sources.answers)(&question)
            && self.answered.get(&question) != Some(&text)
        {
            self.answered.insert(question.clone(), text.clone());
            self.batch.answers.push((question, text));
        }
    }

    /// Counts events that the ring lost just now.
    pub fn lost(&mut self, count: u64) {
        self.batch.lost += count;
    }

    /// Writes what has waited long enough at `now`.
    ///
    /// # Errors
    /// The writer's.
    pub fn advance(&mut self, now: u64) -> io::Result<()> {
        if !self.batch.events.is_empty() && now.saturating_sub(self.since) >= LONGEST_WAIT {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes what is left and how the run ended.
    ///
    /// # Errors
    /// The writer's.
    pub fn finish(mut self, end: &End) -> io::Result<()> {
        self.flush()?;
        self.block(END, &serde_json::to_vec(end)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        let batch = std::mem::take(&mut self.batch);
        if batch == Batch::default() {
            return Ok(());
        }
        let plain = postcard::to_allocvec(&batch).map_err(io::Error::other)?;
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&plain)?;
        let payload = encoder.finish()?;
        self.block(BATCH, &payload)
    }

    /// At once, so that a crash leaves whole blocks.
    fn block(&mut self, kind: u32, payload: &[u8]) -> io::Result<()> {
        let mut block = Vec::with_capacity(12 + payload.len());
        for number in [kind, payload.len() as u32, crc32fast::hash(payload)] {
            block.extend(number.to_le_bytes());
        }
        block.extend(payload);
        self.out.write_all(&block)?;
        self.out.flush()
    }
}
