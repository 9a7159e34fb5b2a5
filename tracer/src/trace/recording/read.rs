//! Reading a recording, whole or damaged.

use std::collections::{HashMap, HashSet};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};

use flate2::read::DeflateDecoder;

use super::{BATCH, Batch, END, End, HEAD, Head, LONGEST, MAGIC};
use crate::trace::event::Event;
use crate::trace::pipeline::Pipeline;
use crate::trace::render::Renderer;
use crate::trace::rules::Question;
use crate::trace::summary::Summary;

/// Why a file can't be read as a recording.
#[derive(Debug, thiserror::Error)]
pub enum BadRecording {
    /// It is something else.
    #[error("not a recording of ktrail")]
    NotOne,
    /// It is newer than this reader.
    #[error("a recording of version {0}, which this ktrail does not know (it knows {ours}): use a newer one", ours = MAGIC[7])]
    Version(u8),
    /// It has no whole head.
    #[error("its head is damaged: nothing can be read from it")]
    Head,
    /// Reading failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Where a recording stops making sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// It ends without saying how the run ended, after a whole block.
    NoEnd,
    /// It ends in the middle of the block that begins at this byte.
    Cut(u64),
    /// The block that begins at this byte is not what was written.
    Block(u64),
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Damage::NoEnd => write!(
                f,
                "the recording has no end: its run was killed, or still goes on"
            ),
            Damage::Cut(at) => write!(
                f,
                "the recording breaks off in a block at byte {at}: its run was killed, or still goes on"
            ),
            Damage::Block(at) => write!(
                f,
                "the recording is damaged from byte {at} on: what is before it is shown"
            ),
        }
    }
}

/// A recording that is read.
pub struct Recording<R> {
    from: R,
    /// What its events mean.
    pub head: Head,
    /// Where the first block after the head is.
    start: u64,
    at: u64,
    damage: Option<Damage>,
}

/// What a recording knows beside its events.
#[derive(Debug, Default)]
pub struct Known {
    /// The functions that code addresses are in.
    pub functions: HashMap<u64, String>,
    /// Answers about the firewall's rules.
    pub answers: HashMap<Question, String>,
}

/// What a block holds.
enum Block {
    Batch(Batch),
    End(End),
}

impl<R: Read + Seek> Recording<R> {
    /// Reads the head.
    ///
    /// # Errors
    /// See [`BadRecording`].
    pub fn open(mut from: R) -> Result<Recording<R>, BadRecording> {
        let mut magic = [0; 8];
        from.read_exact(&mut magic).map_err(|e| match e.kind() {
            ErrorKind::UnexpectedEof => BadRecording::NotOne,
            _ => e.into(),
        })?;
        if magic[..7] != MAGIC[..7] {
            return Err(BadRecording::NotOne);
        }
        if magic[7] != MAGIC[7] {
            return Err(BadRecording::Version(magic[7]));
        }
        let mut recording = Recording {
            from,
            head: Head::default(),
            start: 0,
            at: MAGIC.len() as u64,
            damage: None,
        };
        let head = match recording.raw()? {
            Some((HEAD, payload)) => serde_json::from_slice(&payload).ok(),
            _ => None,
        };
        recording.head = head.ok_or(BadRecording::Head)?;
        recording.start = recording.at;
        Ok(recording)
    }

    /// Reads it through: what it knows beside its events, and which journeys have an event that `wanted`
    /// wants.
    ///
    /// # Errors
    /// Reading's; damage is no error.
    pub fn survey(
        &mut self,
        mut wanted: impl FnMut(&Event) -> io::Result<bool>,
    ) -> io::Result<(Known, HashSet<u64>)> {
        self.rewind()?;
        let (mut known, mut journeys) = (Known::default(), HashSet::new());
        while let Some(block) = self.block()? {
            let Block::Batch(batch) = block else {
                continue;
            };
            known.functions.extend(batch.functions);
            known.answers.extend(batch.answers);
            for event in &batch.events {
                if !journeys.contains(&event.journey) && wanted(event)? {
                    journeys.insert(event.journey);
                }
            }
        }
        Ok((known, journeys))
    }

    /// What was found wrong when it was last read through.
    pub fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    fn rewind(&mut self) -> io::Result<()> {
        self.from.seek(SeekFrom::Start(self.start))?;
        (self.at, self.damage) = (self.start, None);
        Ok(())
    }

    /// The next block that this reader knows; none after the end, and from where the damage is.
    fn block(&mut self) -> io::Result<Option<Block>> {
        loop {
            let at = self.at;
            let Some((kind, payload)) = self.raw()? else {
                return Ok(None);
            };
            let block = match kind {
                BATCH => batch(&payload).map(Block::Batch),
                END => serde_json::from_slice(&payload).ok().map(Block::End),
                _ => continue,
            };
            if block.is_none() {
                self.damage = Some(Damage::Block(at));
            }
            return Ok(block);
        }
    }

    /// The next block's kind and payload; none at the end of the file, and where it is damaged.
    fn raw(&mut self) -> io::Result<Option<(u32, Vec<u8>)>> {
        let at = self.at;
        let mut header = Vec::new();
        self.from.by_ref().take(12).read_to_end(&mut header)?;
        if header.is_empty() {
            self.damage = Some(Damage::NoEnd);
            return Ok(None);
        }
        let number = |i: usize| {
            header
                .get(i * 4..i * 4 + 4)
                .and_then(|b| b.try_into().ok())
                .map(u32::from_le_bytes)
        };
        let (Some(kind), Some(len), Some(crc)) = (number(0), number(1), number(2)) else {
            self.damage = Some(Damage::Cut(at));
            return Ok(None);
        };
        if len as usize > LONGEST {
            self.damage = Some(Damage::Block(at));
            return Ok(None);
        }
        let mut payload = Vec::new();
        self.from.by_ref().take(len.into()).read_to_end(&mut payload)?;
        if payload.len() < len as usize {
            self.damage = Some(Damage::Cut(at));
            return Ok(None);
        }
        if crc32fast::hash(&payload) != crc {
            self.damage = Some(Damage::Block(at));
            return Ok(None);
        }
        self.at += 12 + u64::from(len);
        Ok(Some((kind, payload)))
    }
}

fn batch(payload: &[u8]) -> Option<Batch> {
    let mut plain = Vec::new();
    let limit = LONGEST as u64;
    DeflateDecoder::new(payload)
        .take(limit)
        .read_to_end(&mut plain)
        .ok()?;
    postcard::from_bytes(&plain).ok()
}

/// Renders a recording's journeys again: all, or those in `only`. The summary's counts are those of what is shown,
/// but for what the run missed.
///
/// # Errors
/// Reading's and writing's; damage is no error: [`Recording::damage`] has it afterwards.
pub fn show<R: Read + Seek, O: Renderer>(
    recording: &mut Recording<R>,
    only: Option<&HashSet<u64>>,
    mut pipeline: Pipeline<O>,
) -> io::Result<Summary> {
    recording.rewind()?;
    let mut end = End::default();
    let mut ended = false;
    while let Some(block) = recording.block()? {
        match block {
            Block::Batch(batch) => {
                for event in batch.events {
                    if only.is_none_or(|only| only.contains(&event.journey)) {
                        pipeline.replay(event)?;
                    }
                }
                pipeline.lost(batch.lost);
            }
            Block::End(found) => (end, ended) = (found, true),
        }
        if pipeline.done() {
            break;
        }
    }
    if ended && recording.damage == Some(Damage::NoEnd) {
        recording.damage = None;
    }
    pipeline.finish_replay(end)
}
