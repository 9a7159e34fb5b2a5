use proptest::prelude::*;

use super::*;
use crate::trace::event::Returned;
use crate::trace::story::Story;

const TAP: u64 = 0xffff_8880_0000_2000;

fn journeys_with(story: &Story, limits: Limits) -> (Vec<Journey>, Totals) {
    let mut journeys = Journeys::new(&story.points, limits);
    let mut ended = Vec::new();
    for event in &story.events {
        journeys.advance(event.time);
        ended.extend(std::iter::from_fn(|| journeys.ended()));
        journeys.push(event.clone());
        ended.extend(std::iter::from_fn(|| journeys.ended()));
    }
    journeys.finish();
    ended.extend(std::iter::from_fn(|| journeys.ended()));
    assert_eq!(journeys.open(), 0);
    assert!(journeys.holder.is_empty());
    (ended, journeys.totals())
}

fn journeys(story: &Story) -> Vec<Journey> {
    journeys_with(story, Limits::default()).0
}

/// The only journey's fate, as kind and the name of the point that it has.
fn fate(story: &Story) -> (&'static str, String) {
    let journeys = journeys(story);
    assert_eq!(journeys.len(), 1);
    named(story, journeys[0].fate())
}

fn named(story: &Story, fate: &Fate) -> (&'static str, String) {
    let name = match fate {
        Fate::Delivered { process } => String::from_utf8(process.comm.clone()).unwrap(),
        Fate::Sent { device } => String::from_utf8(device.name.clone()).unwrap(),
        Fate::Dropped { after: point, .. }
        | Fate::Consumed { point, .. }
        | Fate::Queued { point, .. }
        | Fate::LostSight { point } => story.points[point.0 as usize].name.clone(),
    };
    (Fate::KINDS[fate.kind()], name)
}

#[test]
fn delivered_across_a_veth_pair() {
    let mut story = Story::new();
    story.cross().read();
    let (journeys, totals) = journeys_with(&story, Limits::default());
    assert_eq!(journeys.len(), 1);
    let journey = &journeys[0];
    assert_eq!(
        (journey.number, journey.tuple),
        (1, Some(crate::trace::story::query()))
    );
    assert_eq!(
        *journey.fate(),
        Fate::Delivered {
            process: Process {
                pid: 812,
                comm: b"dnsmasq".to_vec()
            }
        }
    );
    assert_eq!(journey.head.len(), story.events.len());
    assert_eq!(
        (journey.count, journey.cut, journey.lost),
        (story.events.len() as u64, 0, 0)
    );
    assert_eq!(
        journey.end - journey.start,
        story.events.last().unwrap().time - story.events[0].time
    );
    assert_eq!(
        (totals.packets, totals.stray, totals.fates),
        (1, 0, [1, 0, 0, 0, 0, 0])
    );
}

#[test]
fn dropped_by_netfilter() {
    let mut story = Story::new();
    story.dropped();
    let journeys = journeys(&story);
    let after = story.point("nf_hook_slow");
    let location = 0xffff_ffff_8100_0010;
    assert_eq!(
        *journeys[0].fate(),
        Fate::Dropped {
            reason: Some(6),
            location,
            after,
            had: None
        }
    );
}

#[test]
fn ends_with_its_last_event_when_freed() {
    let mut story = Story::new();
    story.dropped();
    let mut journeys = Journeys::new(&story.points, Limits::default());
    let (last, rest) = story.events.split_last().unwrap();
    for event in rest {
        journeys.push(event.clone());
        assert_eq!(journeys.ended(), None);
    }
    journeys.push(last.clone());
    assert_eq!(journeys.ended().map(|journey| journey.number), Some(1));
}

#[test]
fn without_a_sign_of_freeing_it_lingers() {
    let mut story = Story::new();
    story
        .pass("tp:net_dev_queue tp:netif_receive_skb")
        .sign("tp:consume_skb", Sign::Consumed { read: false });
    let mut journeys = Journeys::new(
        &story.points,
        Limits {
            linger: 1000,
            ..Limits::default()
        },
    );
    for event in &story.events {
        journeys.push(event.clone());
    }
    let last = story.events.last().unwrap().time;
    journeys.advance(last + 999);
    assert_eq!(journeys.ended(), None);
    journeys.advance(last + 1000);
    let fate = journeys.ended().map(|journey| journey.fate().clone());
    let point = story.point("tp:netif_receive_skb");
    assert_eq!(
        fate,
        Some(Fate::Consumed {
            point,
            how: Consumption::Plain
        })
    );
}

#[test]
fn what_follows_the_end_of_a_copy_prolongs_the_wait() {
    let mut story = Story::new();
    story
        .pass("ip_rcv")
        .sign("tp:consume_skb", Sign::Consumed { read: false })
        .pass("skb_release_data");
    let mut journeys = Journeys::new(
        &story.points,
        Limits {
            linger: 1000,
            ..Limits::default()
        },
    );
    for event in &story.events {
        journeys.push(event.clone());
    }
    journeys.advance(story.events[1].time + 1000);
    assert_eq!(journeys.ended(), None);
    journeys.advance(story.events[2].time + 1000);
    assert_eq!(journeys.ended().map(|journey| journey.count), Some(3));
}

#[test]
fn sent_by_a_driver() {
    // Taken, and the memory given back later from an interrupt.
    let mut story = Story::new();
    story
        .dev(2, "eth0", 1)
        .pass("__dev_queue_xmit dev_hard_start_xmit tp:net_dev_start_xmit e1000_xmit");
    story.sign("tp:net_dev_xmit", Sign::Transmitted { code: 0 });
    assert_eq!(fate(&story), ("sent", "eth0".into()));
    story
        .process(0, 0, "swapper/0")
        .sign("tp:consume_skb", Sign::Consumed { read: false })
        .free();
    assert_eq!(fate(&story), ("sent", "eth0".into()));

    // Consumed within the driver, which never answers for this skb.
    let mut story = Story::new();
    story
        .dev(3, "dummy0", 1)
        .pass("tp:net_dev_start_xmit")
        .sign("tp:consume_skb", Sign::Consumed { read: false });
    assert_eq!(fate(&story), ("sent", "dummy0".into()));

    // Refused, tried again, taken.
    let mut story = Story::new();
    story.dev(2, "eth0", 1).pass("tp:net_dev_start_xmit");
    story
        .sign("tp:net_dev_xmit", Sign::Transmitted { code: 16 })
        .pass("pfifo_fast_enqueue");
    assert_eq!(fate(&story), ("queued", "pfifo_fast_enqueue".into()));
    story
        .pass("tp:net_dev_start_xmit")
        .sign("tp:net_dev_xmit", Sign::Transmitted { code: 0 });
    assert_eq!(fate(&story), ("sent", "eth0".into()));
}

#[test]
fn a_stacked_device_passes_the_packet_on() {
    let mut story = Story::new();
    story
        .dev(5, "vlan10", 1)
        .pass("tp:net_dev_start_xmit vlan_dev_hard_start_xmit");
    story
        .dev(2, "eth0", 1)
        .pass("__dev_queue_xmit tp:net_dev_start_xmit");
    story.sign("tp:net_dev_xmit", Sign::Transmitted { code: 0 });
    story.sign("tp:net_dev_xmit", Sign::Transmitted { code: 0 });
    story
        .sign("tp:consume_skb", Sign::Consumed { read: false })
        .free();
    assert_eq!(fate(&story), ("sent", "eth0".into()));
}

#[test]
fn loopback_is_not_sent() {
    let mut story = Story::new();
    story
        .dev(1, "lo", 1)
        .pass("tp:net_dev_start_xmit loopback_xmit tp:netif_rx");
    story.sign("tp:net_dev_xmit", Sign::Transmitted { code: 0 });
    assert_eq!(fate(&story), ("queued", "netif_rx".into()));
    story.pass("__netif_receive_skb_core ip_rcv icmp_rcv icmp_echo fib_compute_spec_dst consume_skb");
    story
        .sign("tp:consume_skb", Sign::Consumed { read: false })
        .free();
    assert_eq!(fate(&story), ("consumed", "icmp_rcv".into()));
}

#[test]
fn dropped_after_all() {
    let mut story = Story::new();
    story.dev(2, "eth0", 1).pass("tp:net_dev_start_xmit");
    story.sign("tp:net_dev_xmit", Sign::Transmitted { code: 0 });
    story
        .sign(
            "tp:kfree_skb",
            Sign::Dropped {
                reason: Some(2),
                location: 0,
            },
        )
        .free();
    let journeys = journeys(&story);
    let Fate::Dropped {
        had: Some(Had::BeenTaken(device)),
        ..
    } = journeys[0].fate()
    else {
        panic!("{:?}", journeys[0].fate());
    };
    assert_eq!(device.name, b"eth0");
}

#[test]
fn tcp_data_merged() {
    let mut story = Story::new();
    story.pass("tcp_v4_rcv tcp_v4_do_rcv tcp_rcv_established tcp_data_queue tcp_queue_rcv");
    assert_eq!(fate(&story), ("queued", "tcp_queue_rcv".into()));
    story.pass("tcp_try_coalesce kfree_skb_partial").free();
    let journeys = journeys(&story);
    let point = story.point("tcp_try_coalesce");
    assert_eq!(
        *journeys[0].fate(),
        Fate::Consumed {
            point,
            how: Consumption::Merged
        }
    );
}

#[test]
fn released_without_a_word() {
    // Read by a process, then put on another CPU's list of skbs to free: no tracepoint, and no free to be seen.
    let mut story = Story::new();
    story
        .pass("tcp_queue_rcv")
        .process(0, 99, "nginx")
        .sign("tp:skb_copy_datagram_iovec", Sign::Copied);
    story.pass("skb_attempt_defer_free");
    let mut journeys = Journeys::new(&story.points, Limits::default());
    for event in &story.events {
        journeys.push(event.clone());
    }
    journeys.advance(story.time + Limits::default().linger);
    let ended = journeys
        .ended()
        .expect("the journey ends without the end of the run");
    assert_eq!(named(&story, ended.fate()), ("delivered", "nginx".into()));

    let mut story = Story::new();
    story.pass("tcp_v4_rcv tcp_ack __kfree_skb skb_release_head_state");
    assert_eq!(fate(&story), ("consumed", "tcp_ack".into()));
}

#[test]
fn still_queued_or_lost_from_sight_at_the_end() {
    let mut story = Story::new();
    story.cross();
    assert_eq!(fate(&story), ("queued", "__udp_enqueue_schedule_skb".into()));
    story.pass("udp_unicast_rcv_skb");
    assert_eq!(fate(&story), ("lost_sight", "udp_unicast_rcv_skb".into()));
}

/// A capture's copy, made on the way out and on the way in.
fn tapped(story: &mut Story, clone_of: u64) {
    story
        .pass("dev_queue_xmit_nit skb_clone")
        .skb(TAP)
        .process(1, 77, "tcpdump");
    story
        .sign("skb_clone", Sign::Cloned { from: clone_of })
        .pass("packet_rcv");
    story
        .sign("tp:skb_copy_datagram_iovec", Sign::Copied)
        .sign("tp:consume_skb", Sign::Consumed { read: false })
        .free();
    story.skb(clone_of);
}

#[test]
fn a_captures_copy_does_not_tell_the_fate() {
    let mut story = Story::new();
    let skb = story.skb;
    tapped(&mut story, skb);
    story.dropped();
    let journeys = journeys(&story);
    let journey = &journeys[0];
    assert_eq!(journey.copies.len(), 2);
    assert_eq!(journey.copies[1].of, Some(0));
    assert_eq!(
        named(&story, &journey.copies[1].fate),
        ("delivered", "tcpdump".into())
    );
    assert_eq!(named(&story, journey.fate()), ("dropped", "nf_hook_slow".into()));
    let marks: Vec<usize> = journey
        .steps()
        .filter(|s| s.of.is_some())
        .map(|s| s.copy)
        .collect();
    assert_eq!(marks, [1]);
}

#[test]
fn a_copy_that_got_further_tells_the_fate() {
    // TCP sends a clone and keeps the original until it is acknowledged.
    let mut story = Story::new();
    let original = story.skb;
    story
        .pass("tcp_write_xmit __tcp_transmit_skb skb_clone")
        .skb(original + 1);
    story
        .sign("skb_clone", Sign::Cloned { from: original })
        .cross()
        .read();
    story.skb(original).sign("__kfree_skb", Sign::Passed).free();
    assert_eq!(fate(&story), ("delivered", "dnsmasq".into()));
}

#[test]
fn a_raw_sockets_copy_counts_only_when_read() {
    let start = |read: bool| {
        let mut story = Story::new();
        let skb = story.skb;
        story
            .pass("ip_local_deliver raw_local_deliver raw_v4_input skb_clone")
            .skb(TAP);
        story
            .sign("skb_clone", Sign::Cloned { from: skb })
            .pass("raw_rcv");
        match read {
            true => story.sign("tp:skb_copy_datagram_iovec", Sign::Copied).free(),
            false => story
                .sign(
                    "tp:kfree_skb",
                    Sign::Dropped {
                        reason: Some(8),
                        location: 0,
                    },
                )
                .free(),
        };
        story
            .skb(skb)
            .pass("icmp_rcv")
            .sign("tp:consume_skb", Sign::Consumed { read: false })
            .free();
        fate(&story)
    };
    assert_eq!(start(true), ("delivered", "dig".into()));
    assert_eq!(start(false), ("consumed", "icmp_rcv".into()));
}

#[test]
fn a_clone_that_was_not_announced_keeps_the_journey_open() {
    let mut story = Story::new();
    let skb = story.skb;
    story.pass("tp:net_dev_queue").skb(TAP).pass("tp:net_dev_queue");
    story.sign("kfree_skbmem", Sign::Freed).skb(skb).dropped();
    let journeys = journeys(&story);
    assert_eq!(journeys.len(), 1);
    assert_eq!(journeys[0].copies[1].of, None);
    assert_eq!(named(&story, journeys[0].fate()).0, "dropped");
}

#[test]
fn a_reused_address_in_one_journey_is_another_copy() {
    let mut story = Story::new();
    let skb = story.skb;
    story
        .pass("tcp_transmit_skb")
        .skb(TAP)
        .sign("skb_clone", Sign::Cloned { from: skb });
    story.sign(
        "tp:kfree_skb",
        Sign::Dropped {
            reason: None,
            location: 0,
        },
    );
    // The same address for the retransmission; that the first was freed has not been seen.
    story.sign("skb_clone", Sign::Cloned { from: skb }).cross().read();
    story.skb(skb).free();
    let journeys = journeys(&story);
    let kinds: Vec<&str> = journeys[0]
        .copies
        .iter()
        .map(|c| Fate::KINDS[c.fate.kind()])
        .collect();
    assert_eq!(kinds, ["consumed", "dropped", "delivered"]);
    assert_eq!(journeys[0].teller, 2);
}

#[test]
fn a_packet_that_was_read_does_not_move_on() {
    // With tracepoints alone, TCP frees unseen, and the next packet may get the same memory.
    let mut story = Story::new();
    story
        .pass("tp:netif_receive_skb")
        .sign("tp:skb_copy_datagram_iovec", Sign::Copied);
    story.pass("tp:net_dev_queue tp:netif_receive_skb");
    let (journeys, totals) = journeys_with(&story, Limits::default());
    let fates: Vec<_> = journeys
        .iter()
        .map(|j| (j.number, j.count, Fate::KINDS[j.fate().kind()]))
        .collect();
    assert_eq!(fates, [(1, 2, "delivered"), (2, 2, "lost_sight")]);
    assert_eq!((totals.packets, totals.stray), (2, 0));
}

#[test]
fn an_address_in_another_journey_ends_the_first() {
    let mut story = Story::new();
    story.pass("ip_rcv");
    story.journey = 8;
    story.pass("ip_rcv").free();
    let journeys = journeys(&story);
    let fates: Vec<_> = journeys
        .iter()
        .map(|j| (j.number, Fate::KINDS[j.fate().kind()]))
        .collect();
    assert_eq!(fates, [(1, "lost_sight"), (2, "consumed")]);
    assert!(!journeys[0].given_up);
}

#[test]
fn stragglers_are_counted_and_begin_no_packet() {
    let mut story = Story::new();
    story.dropped().pass("kfree_skbmem");
    let (journeys, totals) = journeys_with(&story, Limits::default());
    assert_eq!((journeys.len(), totals.packets, totals.stray), (1, 1, 1));
    assert_eq!(totals.events, story.events.len() as u64);
}

#[test]
fn losses_are_counted_for_those_that_were_open() {
    let mut story = Story::new();
    story.pass("ip_rcv");
    let mut journeys = Journeys::new(&story.points, Limits::default());
    journeys.lost(1);
    journeys.push(story.events[0].clone());
    journeys.lost(3);
    journeys.lost(2);
    journeys.finish();
    assert_eq!(journeys.ended().map(|journey| journey.lost), Some(5));
    assert_eq!(journeys.totals().lost, 6);
}

#[test]
fn a_late_event_goes_to_its_place() {
    let mut story = Story::new();
    story.pass("ip_rcv ip_local_deliver udp_rcv");
    story.events.swap(1, 2);
    let journeys = journeys(&story);
    assert!(journeys[0].head.is_sorted_by_key(|step| step.event.time));
}

#[test]
fn long_journeys_keep_both_ends() {
    let mut story = Story::new();
    for _ in 0..20 {
        story.pass("ip_rcv");
    }
    let limits = Limits {
        head: 5,
        tail: 3,
        ..Limits::default()
    };
    let (journeys, totals) = journeys_with(&story, limits);
    let kept: Vec<u64> = journeys[0]
        .steps()
        .map(|s| (s.event.time - story.events[0].time) / 640)
        .collect();
    assert_eq!(kept, [0, 1, 2, 3, 4, 17, 18, 19]);
    assert_eq!((journeys[0].count, journeys[0].cut, totals.cut), (20, 12, 12));
}

#[test]
fn too_many_copies_or_packets_are_given_up() {
    let mut story = Story::new();
    for copy in 0..4 {
        story.skb(TAP + copy).pass("ip_rcv");
    }
    let (journeys, totals) = journeys_with(
        &story,
        Limits {
            copies: 2,
            ..Limits::default()
        },
    );
    assert_eq!(
        (journeys.len(), journeys[0].given_up, journeys[0].count),
        (1, true, 3)
    );
    assert_eq!((totals.given_up, totals.stray), (1, 1));

    let mut story = Story::new();
    for journey in 0..4 {
        story.journey = journey;
        story.skb(TAP + journey).pass("ip_rcv");
    }
    let (journeys, totals) = journeys_with(
        &story,
        Limits {
            open: 2,
            ..Limits::default()
        },
    );
    let given_up: Vec<bool> = journeys.iter().map(|j| j.given_up).collect();
    assert_eq!(given_up, [true, true, false, false]);
    assert_eq!(totals.given_up, 2);
}

proptest! {
    // Whatever happens to a few skbs in a few journeys: every event is kept, cut or counted as stray, every journey
    // ends exactly once, in time order inside, and nothing stays behind.
    #[test]
    fn every_event_is_accounted_for(
        acts in prop::collection::vec((0u64..4, 0u64..5, 0usize..8, 0u64..400), 0..200),
        head in 1usize..6, tail in 1usize..4, copies in 1usize..4, open in 1usize..4,
    ) {
        let mut story = Story::new();
        for (journey, skb, act, step) in acts {
            story.journey = journey;
            story.skb(skb);
            story.time = story.time + step * 10 - 700;
            match act {
                0 => story.sign("skb_clone", Sign::Cloned { from: (skb + 1) % 5 }),
                1 => story.sign("tp:kfree_skb", Sign::Dropped { reason: None, location: 0 }),
                2 => story.sign("tp:consume_skb", Sign::Consumed { read: false }),
                3 => story.sign("kfree_skbmem", Sign::Freed),
                4 => story.sign("tp:net_dev_xmit", Sign::Transmitted { code: 0 }),
                5 => story.pass("tp:netif_rx"),
                _ => story.pass("ip_rcv"),
            };
        }
        let limits = Limits { head, tail, copies, open, linger: 2000 };
        let (journeys, totals) = journeys_with(&story, limits);
        let counted: u64 = journeys.iter().map(|j| j.count).sum();
        prop_assert_eq!(counted + totals.stray, story.events.len() as u64);
        prop_assert_eq!(totals.events, story.events.len() as u64);
        let mut numbers: Vec<u64> = journeys.iter().map(|j| j.number).collect();
        numbers.sort();
        prop_assert_eq!(numbers, (1..=totals.packets).collect::<Vec<_>>());
        prop_assert_eq!(totals.fates.iter().sum::<u64>(), totals.packets);
        prop_assert_eq!(totals.cut, journeys.iter().map(|j| j.cut).sum::<u64>());
        for journey in &journeys {
            prop_assert_eq!(journey.steps().count() as u64 + journey.cut, journey.count);
            prop_assert!(journey.steps().is_sorted_by_key(|s| s.event.time));
            prop_assert!(journey.steps().all(|s| s.copy < journey.copies.len()));
            prop_assert!(journey.copies.len() <= copies + 1);
        }
    }

    // Printing as they come sees every event that is not stray, once, as it was pushed.
    #[test]
    fn the_step_given_back_is_the_event_pushed(times in prop::collection::vec(0u64..50, 1..60), head in 0usize..5) {
        let mut story = Story::new();
        for time in times {
            story.time = time;
            story.packet.len += 1;
            story.pass("ip_rcv");
        }
        let mut journeys = Journeys::new(&story.points, Limits { head, tail: 1, ..Limits::default() });
        for event in &story.events {
            let step = journeys.push(event.clone()).map(|(_, step)| step.event.clone());
            prop_assert_eq!(step.as_ref(), Some(event));
        }
    }
}

#[test]
fn what_runs_beneath_moves_and_ends_nothing() {
    let mut story = Story::new();
    story.cross();
    let before = fate(&story);
    // Named like a function that would mean something.
    story.ran("kfree_skbmem", "udp_rcv", Returned::Nothing);
    assert_eq!(fate(&story), before);
    story.read();
    let ended = fate(&story);
    // After the end of the packet, though its function still runs; and in memory that is another packet's by now.
    story.ran("fib_table_lookup", "udp_rcv", Returned::Signed(0));
    let (journeys, totals) = journeys_with(&story, Limits::default());
    assert_eq!((journeys.len(), totals.stray), (1, 1));
    assert_eq!(named(&story, journeys[0].fate()), ended);
    story.journey = 8;
    story.cross();
    story.journey = 7;
    story.ran("fib_table_lookup", "udp_rcv", Returned::Signed(0));
    story.journey = 8;
    story.read();
    let (journeys, totals) = journeys_with(&story, Limits::default());
    assert_eq!((journeys.len(), totals.stray), (2, 2));
    assert_eq!(named(&story, journeys[1].fate()), ended);
}

/// The skbs of fragments are freed with the packet that was put together of them: what dropped that counts.
#[test]
fn a_drop_with_a_reason_tells_more_than_one_without() {
    let mut story = Story::new();
    let skbs = [story.skb, story.skb + 0x100];
    for skb in skbs {
        story.skb(skb).pass("ip_defrag");
    }
    for (skb, reason) in skbs.into_iter().zip([2, 3]) {
        let sign = Sign::Dropped {
            reason: Some(reason),
            location: 0xffff_ffff_8100_0010,
        };
        story.skb(skb).pass("kfree_skb_reason").sign("tp:kfree_skb", sign);
    }
    for skb in skbs {
        story.skb(skb).free();
    }
    let journeys = journeys(&story);
    let fates: Vec<_> = journeys.iter().map(Journey::fate).collect();
    assert!(
        matches!(fates[..], [Fate::Dropped { reason: Some(3), .. }]),
        "{fates:?}"
    );
}
