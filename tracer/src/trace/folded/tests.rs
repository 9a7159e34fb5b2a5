use super::*;
use crate::trace::event::PointId;
use crate::trace::journey::Fate;
use crate::trace::story::Story;

/// What the kernel's side does with these events: reports of the steps, and the journey.
fn fold(folded: &mut Folded, events: &[Event]) -> Vec<u8> {
    let mut skbs: Vec<u64> = vec![];
    let mut journey = trail::blank();
    let (mut hash, mut last) = (0_u64, events[0].time);
    for (number, event) in (0..).zip(events) {
        let place = |skbs: &[u64], skb| skbs.iter().position(|known| *known == skb);
        let copy = place(&skbs, event.skb).unwrap_or_else(|| {
            skbs.push(event.skb);
            skbs.len() - 1
        }) as u64;
        let origin = match event.sign {
            Sign::Cloned { from } => place(&skbs, from).unwrap() as u64,
            _ => 0,
        };
        let before = hash;
        hash = trail::lost(before, u64::from(event.point.0) << 8 | copy);
        folded.steps.entry(hash).or_insert(Reported {
            before,
            copy,
            origin,
            event: event.clone(),
        });
        let at = (trail::TIMES + 4 * number) as usize;
        journey[at..at + 4].copy_from_slice(&((event.time - last) as u32).to_ne_bytes());
        last = event.time;
    }
    Trail::Hash.put(&mut journey, hash);
    Trail::Steps.put(&mut journey, events.len() as u64);
    Trail::Start.put(&mut journey, events[0].time);
    if let Some(packet) = events.iter().find_map(|event| event.packet.as_ref()) {
        let (at, room) = (trail::HEADERS.0 as usize, packet.headers.len());
        journey[at..at + room].copy_from_slice(&packet.headers);
        Trail::HeaderLen.put(&mut journey, room as u64);
    }
    journey
}

fn counted(mut journey: Vec<u8>, count: u64) -> Vec<u8> {
    Trail::Count.put(&mut journey, count);
    journey
}

/// Fates with their packets, and of how many packets times are.
fn finished(
    folded: Folded,
    points: &[Point],
    kinds: &[Vec<u8>],
    open: &[Vec<u8>],
) -> (Vec<(Journey, u64, u64)>, Totals, Folding) {
    let mut shares = vec![];
    let result = folded.finish(points, kinds, open, |share| {
        shares.push((share.journey.clone(), share.packets, share.weight));
        Ok::<_, ()>(())
    });
    let (totals, folding) = result.unwrap();
    (shares, totals, folding)
}

/// What the same events come to one by one.
fn journey_of(story: &Story) -> Journey {
    let mut journeys = Journeys::new(&story.points, Limits::default());
    for event in &story.events {
        journeys.push(event.clone());
    }
    journeys.finish();
    journeys.ended().unwrap()
}

#[test]
fn a_kind_comes_to_what_its_packets_do() {
    let mut story = Story::new();
    story.cross().read();
    let due = journey_of(&story);
    let mut folded = Folded::default();
    let kind = fold(&mut folded, &story.events);
    folded.sample(&kind);
    let (shares, totals, folding) = finished(folded, &story.points, &[counted(kind, 7)], &[]);
    assert_eq!(shares.len(), 2, "the kind, and its one sample");
    let (journey, packets, weight) = &shares[0];
    assert_eq!((*packets, *weight), (7, 0));
    assert_eq!(journey.fate(), due.fate());
    assert_eq!(
        (journey.tuple, journey.start, journey.end),
        (due.tuple, due.start, due.end)
    );
    let (journey, packets, weight) = &shares[1];
    assert_eq!((*packets, *weight), (0, 1));
    let times = |journey: &Journey| journey.steps().map(|step| step.event.time).collect::<Vec<_>>();
    assert_eq!(times(journey), times(&due));
    assert_eq!((totals.packets, totals.fates[0]), (7, 7));
    assert_eq!(totals.events, 7 * story.events.len() as u64);
    assert_eq!((folding.timed, folding.untold), (1, 0));
}

#[test]
fn kinds_with_a_common_beginning_keep_their_own_example() {
    let (mut first, mut second) = (Story::new(), Story::new());
    first.cross().read();
    second.points.clone_from(&first.points);
    let other = crate::trace::event::Tuple {
        dst: "8.8.4.4".parse().unwrap(),
        ..crate::trace::story::query()
    };
    second.packet.tuple = Some(other);
    second.packet.headers[16..20].copy_from_slice(&[8, 8, 4, 4]);
    second.dropped();
    let mut folded = Folded::default();
    let kinds = [&first, &second].map(|story| counted(fold(&mut folded, &story.events), 1));
    let (shares, totals, _) = finished(folded, &second.points, &kinds, &[]);
    let dropped = shares
        .iter()
        .find(|(journey, ..)| matches!(journey.fate(), Fate::Dropped { .. }));
    assert_eq!(dropped.unwrap().0.tuple, Some(other));
    assert_eq!(totals.fates[..3], [1, 0, 1]);
}

#[test]
fn copies_are_told_apart_and_lost_ones_too() {
    let mut story = Story::new();
    let original = story.skb;
    story.pass("ip_queue_xmit");
    story
        .skb(0xffff_8880_0000_2000)
        .sign("__copy_skb_header", Sign::Cloned { from: original });
    story.cross();
    let mut folded = Folded::default();
    let mut open = fold(&mut folded, &story.events);
    let at_rest = counted(open.clone(), 2);
    // The clone's address was used again.
    let lost = trail::lost(Trail::Hash.of(&open), 1);
    Trail::Hash.put(&mut open, lost);
    let (shares, totals, folding) = finished(folded, &story.points, &[at_rest], &[open]);
    assert_eq!(shares[0].0.copies.len(), 2);
    assert_eq!(shares[0].0.copies[1].of, Some(0));
    assert_eq!(shares[0].0.fate().kind(), 4, "queued");
    let fates: Vec<usize> = shares
        .iter()
        .filter(|s| s.1 > 0)
        .map(|s| s.0.fate().kind())
        .collect();
    assert_eq!(fates, [4, 5], "who is lost is not queued");
    assert_eq!((totals.packets, folding.under_way, folding.untold), (3, 1, 0));
}

#[test]
fn what_was_not_reported_is_counted() {
    let mut story = Story::new();
    story.cross().read();
    let mut folded = Folded::default();
    let kind = counted(fold(&mut folded, &story.events), 9);
    folded.steps.retain(|_, step| step.event.point != PointId(3));
    let (shares, totals, folding) = finished(folded, &story.points, &[kind], &[]);
    assert!(shares.is_empty());
    assert_eq!((totals.packets, folding.untold), (9, 9));
}

#[test]
fn more_steps_than_times_are_kept_of() {
    let mut story = Story::new();
    for _ in 0..trail::STEPS - 1 {
        story.pass("ip_rcv");
    }
    let mut folded = Folded::default();
    let kind = counted(fold(&mut folded, &story.events), 1);
    let (_, _, folding) = finished(folded, &story.points, &[kind], &[]);
    assert_eq!((folding.timed, folding.long), (1, 0));
    let mut folded = Folded::default();
    story.pass("ip_rcv");
    let kind = counted(fold(&mut folded, &story.events), 1);
    let (shares, _, folding) = finished(folded, &story.points, &[kind], &[]);
    assert_eq!((folding.timed, folding.long, shares.len()), (0, 1, 1));
}

#[test]
fn samples_stand_for_as_many_packets_each() {
    let mut folded = Folded::default();
    let mut sample = trail::blank();
    Trail::Steps.put(&mut sample, 3);
    for rate in [0, 1, 2] {
        Trail::Rate.put(&mut sample, rate);
        (0..4096 >> rate).for_each(|_| folded.sample(&sample));
    }
    let samples = &folded.samples[&0];
    assert!(samples.iter().all(|sample| sample.rate == 2));
    // A quarter of the first, half of the second, all of the third.
    assert!((2900..3250).contains(&samples.len()), "{}", samples.len());
    // A straggler from before.
    Trail::Rate.put(&mut sample, 0);
    (0..4096).for_each(|_| folded.sample(&sample));
    assert!(
        (3850..4350).contains(&folded.samples[&0].len()),
        "{}",
        folded.samples[&0].len()
    );
}
