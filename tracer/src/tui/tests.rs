//! The view without a terminal: golden screens (`tracer/tests/golden/tui-*.txt`, blessed by `KTRAIL_BLESS=1`), and what
//! keys do.

use proptest::prelude::*;

use super::buffer::{Buffer, Look};
use super::journey::LINES;
use super::view::{Kept, Key, View};
use crate::trace::journey::{Journeys, Limits};
use crate::trace::render::tests::{busy_life, golden, names, two_queries};
use crate::trace::story::Story;

/// Lets the view see what happens in a story, to its end.
fn watch(view: &mut View, story: &Story) {
    let mut journeys = Journeys::new(&story.points, Limits::default());
    for event in &story.events {
        if let Some((number, step)) = journeys.push(event.clone()) {
            view.event(number, step);
        }
        while let Some(journey) = journeys.ended() {
            view.ended(&journey);
        }
    }
    journeys.finish();
    while let Some(journey) = journeys.ended() {
        view.ended(&journey);
    }
    view.totals = journeys.totals();
}

fn view_of(story: &Story, width: usize, height: usize) -> View {
    let mut view = View::new(names(story), Kept::default(), false);
    view.resize(width, height);
    view.state = "recorded".into();
    watch(&mut view, story);
    view
}

/// As many packets as asked for, each a query that passes a few functions.
fn many(packets: u64) -> Story {
    let mut story = Story::new();
    for number in 0..packets {
        (story.journey, story.skb) = (number + 1, 0xffff_8880_0000_0000 + number * 256);
        story.packet.tuple.as_mut().unwrap().ports = Some((1000 + number as u16, 53));
        story.pass("udp_send_skb ip_output").free();
    }
    story
}

fn press(view: &mut View, keys: &[Key]) {
    keys.iter().for_each(|&key| view.press(key));
}

fn write(view: &mut View, text: &str) {
    text.chars().for_each(|char| view.press(Key::Char(char)));
}

fn assert_screen(name: &str, view: &mut View) {
    let frame = view.frame();
    golden(
        &format!("tui-{name}.txt"),
        &format!("{}-- looks --\n{}", frame.text(), frame.looks()),
    );
}

#[test]
fn two_packets_one_dropped() {
    let story = two_queries();
    let mut view = view_of(&story, 120, 26);
    assert_screen("first", &mut view);
    press(&mut view, &[Key::Down, Key::Enter, Key::End, Key::Up, Key::Up]);
    assert_screen("dropped", &mut view);
}

#[test]
fn what_packets_contain_is_escaped() {
    let story = busy_life();
    let mut view = view_of(&story, 130, 40);
    press(&mut view, &[Key::Tab]);
    assert_screen("busy", &mut view);
    write(&mut view, "/tcpdump");
    press(&mut view, &[Key::Enter]);
    assert_screen("found", &mut view);
}

#[test]
fn a_narrow_screen_shows_one_pane() {
    let story = two_queries();
    let mut view = view_of(&story, 60, 14);
    assert_screen("narrow-list", &mut view);
    press(&mut view, &[Key::Tab]);
    assert_screen("narrow-journey", &mut view);
    press(&mut view, &[Key::Char('?')]);
    assert_screen("narrow-help", &mut view);
}

/// Where a packet is made its ports are not known yet.
#[test]
fn list_and_heading_have_the_ports_that_come_later() {
    let mut story = Story::new();
    let ports = story
        .packet
        .tuple
        .as_mut()
        .and_then(|tuple| tuple.ports.replace((0, 0)));
    story.pass("ip_make_skb");
    story.packet.tuple.as_mut().unwrap().ports = ports;
    story.pass("udp_send_skb").free();
    let text = view_of(&story, 160, 20).frame().text();
    let rows: Vec<&str> = text.lines().collect();
    let whole = "udp 10.0.0.2:41234 -> 8.8.8.8:53";
    assert!(rows[0].contains(&format!("1  {whole}  len")), "{text}");
    assert!(
        rows[1].split('|').next().is_some_and(|list| list.contains(whole)),
        "{text}"
    );
}

#[test]
fn the_list_is_filtered_by_what_packets_met() {
    let story = two_queries();
    let mut view = view_of(&story, 120, 20);
    let listed = |view: &View| view.listed();
    assert_eq!(listed(&view), [1, 2]);
    write(&mut view, "/NETIF_RXX");
    press(&mut view, &[Key::Backspace, Key::Enter]);
    assert_eq!(listed(&view), [1], "only the first came so far");
    assert!(view.frame().text().contains("1 with \"netif_rx\""));
    write(&mut view, "/dropped");
    press(&mut view, &[Key::Enter]);
    assert_eq!(
        (listed(&view), view.chosen),
        (vec![2], Some(2)),
        "what is listed is chosen"
    );
    press(&mut view, &[Key::Escape]);
    assert_eq!(listed(&view), [1, 2]);
    write(&mut view, "/no such thing");
    press(&mut view, &[Key::Enter]);
    assert!(view.frame().text().contains("no packet has that"));
    press(&mut view, &[Key::Char('q')]);
    assert!(view.quit);
}

#[test]
fn the_newest_is_followed_until_somebody_moves() {
    let story = many(30);
    let mut view = View::new(names(&story), Kept::default(), true);
    view.resize(100, 12);
    assert!(view.frame().text().contains("no packet yet"));
    watch(&mut view, &story);
    assert!(view.frame().text().contains("following"));
    assert_eq!(view.chosen, Some(30));
    press(&mut view, &[Key::Up]);
    assert_eq!((view.chosen, view.follow), (Some(29), false));
    press(&mut view, &[Key::Home, Key::PageDown]);
    assert_eq!(view.chosen, Some(11), "a page has ten rows");
    press(&mut view, &[Key::Char('f')]);
    view.frame();
    assert_eq!((view.chosen, view.follow), (Some(30), true));
    press(&mut view, &[Key::Tab]);
    assert!(!view.follow, "what is read does not change");
}

#[test]
fn memory_is_bounded_and_the_screen_says_so() {
    let story = many(30);
    let kept = Kept {
        packets: 10,
        lines: 1000,
    };
    let mut view = View::new(names(&story), kept, false);
    watch(&mut view, &story);
    assert_eq!(view.listed(), (21..=30).collect::<Vec<_>>());
    assert_eq!(
        view.chosen,
        Some(21),
        "the chosen one is gone, the oldest left comes for it"
    );
    assert!(view.frame().text().contains("20 older not kept"));

    let kept = Kept {
        packets: 1000,
        lines: 12,
    };
    let mut view = View::new(names(&story), kept, true);
    watch(&mut view, &story);
    let lines: usize = view.packets.values().map(|packet| packet.lines.len()).sum();
    assert!(lines <= 12 && !view.listed().is_empty(), "{lines} lines");
    assert_eq!(view.forgotten, 30 - view.listed().len() as u64);
}

#[test]
fn one_endless_journey_is_cut() {
    let mut story = Story::new();
    for _ in 0..LINES + 7 {
        story.pass("ip_rcv");
    }
    let mut view = view_of(&story, 100, 30);
    press(&mut view, &[Key::Tab, Key::End]);
    assert!(view.frame().text().contains("... 7 events not kept ..."));
    assert_eq!(view.packets[&1].lines.len(), LINES);
}

#[test]
fn only_what_changed_is_drawn_again() {
    crossterm::style::force_color_output(true); // whatever NO_COLOR says here
    let story = many(5);
    let mut view = view_of(&story, 80, 20);
    let before = view.frame();
    let commands = |frame: &Buffer, before: Option<&Buffer>| {
        let mut out = vec![];
        frame.show(before, true, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let whole = commands(&before, None);
    assert!(whole.contains("\x1b[2J"), "an unknown screen is cleared");
    assert_eq!(commands(&before, Some(&before)), "\x1b[0m");
    press(&mut view, &[Key::Down]);
    let after = view.frame();
    let changed = commands(&after, Some(&before));
    assert!(changed.contains("\x1b[7m") && changed.len() < whole.len() / 2);
    // A terminal of another size starts anew.
    view.resize(70, 20);
    assert!(commands(&view.frame(), Some(&after)).contains("\x1b[2J"));
    let mut plain = vec![];
    after.show(None, false, &mut plain).unwrap();
    assert!(
        !String::from_utf8(plain).unwrap().contains("\x1b[38;"),
        "no colours"
    );
}

#[test]
fn nothing_but_printable_ascii_reaches_the_screen() {
    let mut buffer = Buffer::new(8, 1);
    buffer.put(buffer.area(), 0, 0, "a\x1b[\u{9b}\ne\u{301}z", Look::PLAIN);
    assert_eq!(buffer.text(), "a?[??e?z\n");
}

fn any_key() -> impl Strategy<Value = Key> {
    prop_oneof![
        prop::sample::select(vec![
            'j', 'k', 'g', 'G', 'f', '/', '?', 'n', 'h', 'l', 'd', '\u{e9}'
        ])
        .prop_map(Key::Char),
        prop::sample::select(vec![
            Key::Up,
            Key::Down,
            Key::Left,
            Key::Right,
            Key::PageUp,
            Key::PageDown,
            Key::Home,
            Key::End,
            Key::Enter,
            Key::Tab,
            Key::Escape,
            Key::Backspace,
        ]),
    ]
}

proptest! {
    #[test]
    fn no_keys_and_no_size_do_harm(
        keys in prop::collection::vec((any_key(), 0_usize..140, 0_usize..50), 1..60),
        follow in any::<bool>(),
    ) {
        let story = busy_life();
        let mut view = View::new(names(&story), Kept { packets: 3, lines: 20 }, follow);
        watch(&mut view, &story);
        for (key, width, height) in keys {
            view.press(key);
            view.resize(width, height);
            let frame = view.frame();
            prop_assert_eq!(frame.area().width, width);
            prop_assert!(frame.text().bytes().all(|byte| matches!(byte, b'\n' | b' '..=b'~')));
            if let Some((_, packet)) = view.packet() {
                prop_assert!(view.row < packet.rows());
            }
            if width > 80 && height > 8 {
                // What is chosen is in sight, however one got there.
                let top = view.journey_top;
                prop_assert!((top..top + view.layout().journey.height).contains(&view.row));
            }
        }
    }
}
