use std::cell::RefCell;
use std::io::{self, Cursor, Write};
use std::rc::Rc;

use super::*;
use crate::capture::Matcher;
use crate::trace::pipeline::{Pace, Pipeline};
use crate::trace::render::{Json, Names};
use crate::trace::story::Story;

#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const DROPPER: u64 = 0xffff_ffff_8100_0010;

fn function(address: u64) -> Option<String> {
    (address == DROPPER).then(|| "nf_hook_slow".to_owned())
}

fn sources() -> Sources {
    Sources {
        functions: Rc::new(function),
        answers: Box::new(|_| None),
    }
}

fn attached() -> Attached {
    Attached {
        backend: "kprobe".into(),
        functions: 3,
        ..Attached::default()
    }
}

/// A query that arrives and one to another address that is dropped.
fn story() -> Story {
    let mut story = Story::new();
    story.cross().read();
    story.time += 3_000_000_000;
    story.journey = 8;
    story.packet.tuple.as_mut().unwrap().dst = "9.9.9.9".parse().unwrap();
    story.packet.headers[16..20].copy_from_slice(&[9, 9, 9, 9]);
    story.skb += 0x100;
    story.dropped();
    story
}

fn head(story: &Story) -> Head {
    Head {
        ktrail: "0".into(),
        kernel: "6.12".into(),
        offset: 7,
        points: story.points.clone(),
        reasons: vec![(6, "SKB_DROP_REASON_NETFILTER_DROP".into())],
        ..Head::default()
    }
}

/// What the run prints, and its recording; without its end, if it is `killed`.
fn record(story: &Story, killed: bool) -> (String, Vec<u8>) {
    let (printed, file) = (Shared::default(), Shared::default());
    let head = head(story);
    let recorder = Recorder::new(Box::new(file.clone()), &head, sources()).unwrap();
    let names = Names::new(head.points.clone(), head.reasons(), Box::new(function));
    let out = Json::new(printed.clone(), Rc::new(names), head.offset);
    let mut pipeline = Pipeline::new(&story.points, out, Pace::Journeys).record(Some(recorder));
    for event in &story.events {
        pipeline.push(event.clone());
        pipeline.advance(event.time).unwrap();
    }
    pipeline.lost(2);
    match killed {
        true => drop(pipeline),
        false => drop(pipeline.finish(attached(), Counted::default()).unwrap()),
    }
    (String::from_utf8(printed.0.take()).unwrap(), file.0.take())
}

fn shown(file: &[u8], filter: Option<&str>) -> (String, Option<Damage>) {
    let mut recording = Recording::open(Cursor::new(file)).unwrap();
    let matcher = filter.map(|text| {
        let env = ktrail_ebpf::filter::Env::default();
        Matcher::of_ip(&ktrail_ebpf::filter::parse(text, &env).unwrap()).unwrap()
    });
    let (known, only) = recording
        .survey(|event| match (&matcher, &event.packet) {
            (Some(matcher), Some(packet)) => matcher
                .matches(&packet.headers, packet.len)
                .map_err(io::Error::other),
            _ => Ok(false),
        })
        .unwrap();
    let head = recording.head.clone();
    let Known { functions, answers } = known;
    let names = Names::new(
        head.points.clone(),
        head.reasons(),
        Box::new(move |a| functions.get(&a).cloned()),
    );
    let names = names.asking(Box::new(move |question| answers.get(question).cloned()));
    let out = Shared::default();
    let pipeline = Pipeline::new(
        &head.points,
        Json::new(out.clone(), Rc::new(names), head.offset),
        Pace::Journeys,
    );
    show(&mut recording, matcher.is_some().then_some(&only), pipeline).unwrap();
    let text = String::from_utf8(out.0.take()).unwrap();
    (text, recording.damage().cloned())
}

#[test]
fn what_is_shown_is_what_was_printed() {
    let (printed, file) = record(&story(), false);
    let (text, damage) = shown(&file, None);
    assert_eq!((text, damage), (printed, None));
}

#[test]
fn a_filter_chooses_among_what_was_recorded() {
    let (_, file) = record(&story(), false);
    let fates = |filter| {
        let (text, _) = shown(&file, Some(filter));
        let journeys = text.lines().filter(|line| line.contains("\"type\":\"journey\""));
        journeys
            .map(|line| {
                if line.contains("delivered") {
                    "delivered"
                } else {
                    "dropped"
                }
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(fates("dst 9.9.9.9"), ["dropped"]);
    assert_eq!(fates("udp and dst port 53"), ["delivered", "dropped"]);
    assert_eq!(fates("host 8.8.8.8 and udp[0:2] = 41234"), ["delivered"]);
    assert_eq!(fates("tcp"), <[&str; 0]>::default());
}

#[test]
fn it_is_compact() {
    let mut story = story();
    for journey in 9..200 {
        story.journey = journey;
        story.skb += 0x100;
        story.cross().read();
    }
    let (printed, file) = record(&story, false);
    let each = file.len() / story.events.len();
    assert!(
        each < 24,
        "{each} bytes an event; as JSON {}",
        printed.len() / story.events.len()
    );
}

#[test]
fn what_was_written_before_a_crash_is_shown() {
    // The first packet is in a block of its own: the second comes seconds later.
    let (printed, file) = record(&story(), true);
    let (text, damage) = shown(&file, None);
    let first = |text: &str| text.lines().filter(|line| line.contains("\"packet\":1,")).count();
    assert_eq!(first(&text), first(&printed));
    assert_eq!(damage, Some(Damage::NoEnd));
}

/// Cut off anywhere, or with any byte changed, it is read up to there, and says so.
#[test]
fn damage_is_found_wherever_it_is() {
    let (printed, file) = record(&story(), false);
    let lines: Vec<&str> = printed
        .lines()
        .filter(|line| line.contains("\"type\":\"event\""))
        .collect();
    let head = {
        let len = u32::from_le_bytes(file[12..16].try_into().unwrap());
        8 + 12 + len as usize
    };
    let check = |bytes: &[u8], what: &str| {
        let (text, damage) = shown(bytes, None);
        assert!(damage.is_some(), "{what}");
        for (line, due) in text
            .lines()
            .filter(|line| line.contains("\"type\":\"event\""))
            .zip(&lines)
        {
            assert_eq!(line, *due, "{what}");
        }
    };
    for len in head..file.len() {
        check(&file[..len], &format!("cut to {len} bytes"));
    }
    for at in (head..file.len()).step_by(3) {
        let mut harmed = file.clone();
        harmed[at] ^= 0x10;
        // A block of another kind is skipped: the only change that can't be told from a newer ktrail's.
        if (0..4).contains(&block_offset(&file, at)) {
            continue;
        }
        check(&harmed, &format!("byte {at} changed"));
    }
    for len in 0..head {
        assert!(Recording::open(Cursor::new(&file[..len])).is_err(), "{len} bytes");
    }
}

/// How far a byte is into its block.
fn block_offset(file: &[u8], at: usize) -> usize {
    let mut start = MAGIC.len();
    loop {
        let len = u32::from_le_bytes(file[start + 4..start + 8].try_into().unwrap()) as usize;
        if at < start + 12 + len {
            return at - start;
        }
        start += 12 + len;
    }
}

#[test]
fn other_files_and_newer_versions_are_refused() {
    let error = |bytes: &[u8]| Recording::open(Cursor::new(bytes)).err().unwrap().to_string();
    assert_eq!(error(b""), "not a recording of ktrail");
    assert_eq!(error(b"\x0a\x0d\x0d\x0a pcapng"), "not a recording of ktrail");
    assert!(error(b"ktrail\0\x63").contains("version 99"));
    assert!(error(b"ktrail\0\x01").contains("version 1,"));
    assert!(error(&MAGIC).contains("head"));
}

#[test]
fn unknown_blocks_are_skipped() {
    let (printed, mut file) = record(&story(), false);
    let head = 20 + u32::from_le_bytes(file[12..16].try_into().unwrap()) as usize;
    let mut block: Vec<u8> = [99_u32, 3, crc32fast::hash(b"new")]
        .iter()
        .flat_map(|n| n.to_le_bytes())
        .collect();
    block.extend(b"new");
    file.splice(head..head, block);
    assert_eq!(shown(&file, None), (printed, None));
}

#[test]
fn a_full_disk_is_an_error() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let story = story();
    assert!(Recorder::new(Box::new(Full), &head(&story), sources()).is_err());
}
