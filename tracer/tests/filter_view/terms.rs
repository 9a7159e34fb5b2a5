//! Terms about the kernel's side of a packet, on this kernel's types.

use ktrail_ebpf::filter::{Env, Names, parse};

use super::skb::{ETHERNET, HEADROOM, InKernel, Judge, NETNS, Skb, UNSET};
use super::states::frame;
use super::{LAYOUT, not_here};

/// The names that the cases use.
struct Table;

impl Names for Table {
    fn netns(&self, name: &str) -> Result<u32, String> {
        match name {
            "blue" | "/run/netns/blue" => Ok(NETNS),
            name => name
                .parse()
                .map_err(|_| format!("no network namespace is called {name:?}")),
        }
    }

    fn cgroup(&self, path: &str) -> Result<u64, String> {
        match path {
            // What the interpreter says is the current process's.
            "/" => Ok(0),
            "/deep" => Ok(1 << 40),
            path => Err(format!("there is no cgroup {path:?}")),
        }
    }
}

#[test]
fn fields() {
    let env = Env {
        names: &Table,
        kernel: Some(&LAYOUT.btf),
        ..Env::default()
    };
    let kernel = match not_here() {
        None => Some(InKernel::new()),
        Some(reason) => {
            eprintln!("ktrail-test-skip: fields: in the kernel: {reason}");
            None
        }
    };
    let bytes = frame("udp4 dns");
    let sent = Skb {
        mark: 0x1234_5610,
        vlan: Some(100),
        pkt_type: 3,
        iif: u32::MAX,
        ..Skb::sent(&bytes)
    };
    let bare = Skb {
        dev: None,
        family: None,
        mac_header: UNSET,
        data: HEADROOM + 14,
        ..Skb::sent(&bytes)
    };
    let full = Skb {
        dev: Some(super::skb::Dev {
            name: "abcdefghijklmno",
            ..ETHERNET
        }),
        ..sent.clone()
    };
    let length = format!("skb.len == {} and skb.data_len == 0", bytes.len());
    let cases = [
        (&sent, "skb.mark & 0xff == 0x10", true),
        (&sent, "skb.mark & 0xff == 0x11", false),
        (&sent, "skb.mark == 0x12345610", true),
        (&sent, "0x12345610 = skb.mark", true),
        (&sent, "skb.mark > 0x12345600 and udp port 53", true),
        (&sent, "skb.mark > 0x12345600 and tcp", false),
        (&bare, "skb.mark", false), // not taken: see below
        (&sent, &length, true),
        (&sent, "skb.dev.name == \"eth7\"", true),
        (&sent, "skb.dev.name != \"eth7\"", false),
        (&sent, "skb.dev.name == \"eth\"", false),
        (&sent, "skb.dev.name == \"eth77\"", false),
        (&sent, "skb.dev.name == \"\"", false),
        (&sent, "not skb.dev.name == \"eth8\"", true),
        (&full, "skb.dev.name == \"abcdefghijklmno\"", true),
        (&full, "skb.dev.name == \"abcdefghijklmnop\"", false),
        (&bare, "skb.dev.name == \"eth7\"", false),
        (&bare, "skb.dev.name != \"eth7\"", false),
        (&bare, "not skb.dev.name == \"eth7\"", true),
        (&bare, "skb.dev.ifindex == 0", false),
        (&sent, "skb.dev.ifindex == 7", true),
        (&sent, "skb.sk.__sk_common.skc_family == 2", true),
        (&sent, "skb.sk.__sk_common.skc_family == 10", false),
        (&bare, "skb.sk.__sk_common.skc_family == 10 or port 53", true),
        (&bare, "skb.sk.__sk_common.skc_family != 10", false),
        (&sent, "skb.sk != 0 and skb.dev != 0", true),
        (&bare, "skb.sk == 0 and skb.dev == 0", true),
        (&sent, "skb.head > 0xffffffff", true),
        (&sent, "skb.head < skb.data and skb.data > skb.head", true),
        (&sent, "skb.head >= skb.data or skb.head > skb.data", false),
        (&sent, "skb.head <= skb.data", true),
        (&sent, "skb.protocol == 0x800", true),
        (&sent, "skb.pkt_type == 3", true),
        (&sent, "skb.pkt_type == 4", false),
        (&sent, "skb.skb_iif == 0xffffffff", true),
        (&sent, "skb.vlan_tci == 100", true),
        (&sent, "ip[skb.pkt_type] = ip[3]", true),
        (&sent, "netns blue", true),
        (&bare, "netns blue", false),
        (&sent, "netns 4026531999", true),
        (&sent, "netns != 4026531999", false),
        (&sent, "netns == \"/run/netns/blue\" and udp", true),
    ];
    let mut wrong = vec![];
    for (skb, text, expected) in cases {
        let filter = match parse(text, &env) {
            Ok(filter) => filter,
            Err(error) if text == "skb.mark" => {
                assert!(error.message.contains("no condition"), "{}", error.render(text));
                continue;
            }
            Err(error) => panic!("{}", error.render(text)),
        };
        assert!(filter.asks_the_kernel(), "{text}");
        let judge = Judge::new(&filter, &LAYOUT.offsets, kernel.as_ref());
        let mut verdicts = vec![("interpreter", judge.interpreted(skb))];
        if let Some(kernel) = &kernel {
            verdicts.push(("kernel", judge.in_kernel(kernel, skb)));
        }
        for (who, verdict) in verdicts {
            if verdict != expected {
                wrong.push(format!("'{text}': {who} says {verdict}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// The current process: this test's in the kernel, what `Judge` makes up in the interpreter.
#[test]
fn processes() {
    let env = Env {
        names: &Table,
        kernel: Some(&LAYOUT.btf),
        ..Env::default()
    };
    let skb = Skb::sent(&frame("udp4 dns"));
    for (text, expected) in [
        ("pid 4242", true),
        ("pid 4243", false),
        ("pid != 4243 and udp", true),
        ("comm vm", true),
        ("comm == \"vm\"", true),
        ("comm v", false),
        ("comm vmm", false),
        ("comm != \"abcdefghijklmno\"", true),
        ("cgroup \"/\"", true),
        ("cgroup \"/deep\"", false),
        ("cgroup 0", true),
    ] {
        let filter = parse(text, &env).unwrap_or_else(|error| panic!("{}", error.render(text)));
        let judge = Judge::new(&filter, &LAYOUT.offsets, None);
        assert_eq!(judge.interpreted(&skb), expected, "{text}");
    }
    if let Some(reason) = not_here() {
        eprintln!("ktrail-test-skip: processes: in the kernel: {reason}");
        return;
    }
    let kernel = InKernel::new();
    let own = std::process::id();
    // The name of this thread, which libtest has named after the test: the kernel keeps 15 bytes.
    let comm = std::fs::read_to_string("/proc/thread-self/comm").expect("/proc is mounted");
    for (text, expected) in [
        (format!("pid {own}"), true),
        (format!("pid {}", own + 1), false),
        (format!("comm \"{}\"", comm.trim_end()), true),
        ("comm \"not this one\"".into(), false),
        ("cgroup \"/deep\"".into(), false),
    ] {
        let filter = parse(&text, &env).unwrap_or_else(|error| panic!("{}", error.render(&text)));
        let judge = Judge::new(&filter, &LAYOUT.offsets, Some(&kernel));
        assert_eq!(judge.in_kernel(&kernel, &skb), expected, "{text}");
    }
}

/// What is wrong with a path is said at its place.
#[test]
fn mistakes() {
    let env = Env {
        names: &Table,
        kernel: Some(&LAYOUT.btf),
        ..Env::default()
    };
    for (text, at, message, help) in [
        (
            "skb.marc == 1",
            "marc",
            "struct sk_buff of this kernel has no field 'marc'",
            "did you mean 'mark'?",
        ),
        (
            "tcp and skb.dev.nam == \"x\"",
            "nam",
            "struct net_device of this kernel has no field 'nam'",
            "did you mean 'name'?",
        ),
        ("skb.mark.x == 1", "x", "what is before '.x' is no struct", ""),
        ("skb.mark == \"x\"", "skb.mark", "'skb.mark' is no text", ""),
        (
            "skb.mark == eth0",
            "eth0",
            "unexpected 'eth0'",
            "write '\"eth0\"'",
        ),
        (
            "skb.dev.name == 5",
            "skb.dev.name",
            "'skb.dev.name' is an array, no number",
            "only arrays of characters can be compared, with \"text\"",
        ),
        (
            "skb.dev.name < \"x\"",
            "\"x\"",
            "texts are equal or not, there is no more to compare",
            "",
        ),
        (
            "skb.dev.name == \"12345678901234567\"",
            "skb.dev.name",
            "'skb.dev.name' has room for 16 bytes, this text has 17",
            "",
        ),
        (
            "skb.head + 1 == 5",
            "skb.head",
            "'skb.head' has 8 bytes, and arithmetic has 4",
            "compare it with a number, without arithmetic",
        ),
        (
            "pid curl",
            "pid curl",
            "a process has a number here",
            "'comm NAME' asks for a process by name",
        ),
        ("pid", "", "the filter ends too early", ""),
        (
            "comm 5",
            "comm 5",
            "a process's name is a text",
            "write it in quotes",
        ),
        (
            "comm abcdefghijklmnop",
            "comm abcdefghijklmnop",
            "a process's name has at most 15 bytes, not 16",
            "the kernel cuts longer names",
        ),
        (
            "netns red",
            "netns red",
            "no network namespace is called \"red\"",
            "",
        ),
        ("cgroup /x", "/", "unexpected '/'", "write a path in quotes"),
        ("cgroup \"/x\"", "cgroup \"/x\"", "there is no cgroup \"/x\"", ""),
        ("inner (5)", "5", "a number is no condition", ""),
        ("inner (tcp", "(", "this parenthesis isn't closed", ""),
    ] {
        let error = parse(text, &env)
            .err()
            .unwrap_or_else(|| panic!("{text} is taken"));
        let shown = error.render(text);
        assert_eq!(&text[error.span.clone()], at, "{shown}");
        assert_eq!(error.message, message, "{shown}");
        assert_eq!(error.suggestion.as_deref().unwrap_or(""), help, "{shown}");
    }
    // Where there is no kernel, each term says so.
    for text in [
        "skb.mark == 1",
        "skb.dev.name == \"x\"",
        "pid 1",
        "comm x",
        "netns blue",
        "cgroup \"/\"",
    ] {
        let error = parse(text, &Env::default())
            .err()
            .unwrap_or_else(|| panic!("{text} is taken"));
        assert!(
            error.message.ends_with("a capture doesn't have it"),
            "{}",
            error.render(text)
        );
    }
}
