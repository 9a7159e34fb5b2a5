//! The live view in a pseudo-terminal: keys are pressed, the screen is read, and the terminal must be as it was before
//! however it ends. `script` makes the terminal, vt100 understands what is written to it.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ktrail::trace::render::{Names, Reasons};
use ktrail::tui::screen::Handle;

const ROWS: u16 = 30;
const COLUMNS: u16 = 120;

/// What runs in the terminal: says how the terminal is, starts the command, says how that ended and how the terminal is.
const AROUND: &str = r#"
stty rows 30 cols 120
tty >"$DIRECTORY/tty"
stty -g >"$DIRECTORY/before"
sh -c 'echo $$ >"$DIRECTORY/pid"; eval "exec $COMMAND"'
echo "ended with $?"
stty -g >"$DIRECTORY/after"
"#;

/// What a terminal has been sent.
struct Sent {
    bytes: Vec<u8>,
    parser: vt100::Parser,
}

struct Terminal {
    directory: PathBuf,
    script: Child,
    keys: ChildStdin,
    sent: Arc<Mutex<Sent>>,
}

impl Terminal {
    /// Runs a command; none if this machine has no `script`.
    fn run(name: &str, command: &str) -> Option<Terminal> {
        let directory = std::env::temp_dir().join(format!("ktrail-tui-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let script = Command::new("script")
            .args(["-q", "-e", "-f", "-c", AROUND, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm")
            .env("DIRECTORY", &directory)
            .env("COMMAND", command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut script = match script {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                println!("ktrail-test-skip: {name}: no `script`: apt-get install bsdutils");
                return None;
            }
            script => script.expect("script starts"),
        };
        let keys = script.stdin.take().unwrap();
        let mut output = script.stdout.take().unwrap();
        let sent = Arc::new(Mutex::new(Sent {
            bytes: vec![],
            parser: vt100::Parser::new(ROWS, COLUMNS, 0),
        }));
        let reader = Arc::clone(&sent);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                let mut sent = reader.lock().unwrap();
                sent.bytes.extend(&buffer[..count]);
                sent.parser.process(&buffer[..count]);
            }
        });
        Some(Terminal {
            directory,
            script,
            keys,
            sent,
        })
    }

    fn screen(&self) -> String {
        self.sent.lock().unwrap().parser.screen().contents()
    }

    fn raw(&self) -> String {
        String::from_utf8_lossy(&self.sent.lock().unwrap().bytes).into_owned()
    }

    /// Waits until the screen shows a text.
    #[track_caller]
    fn sees(&self, text: &str) {
        self.waits(&format!("{text:?} does not come"), |screen| screen.contains(text));
    }

    #[track_caller]
    fn waits(&self, otherwise: &str, until: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        while !until(&self.screen()) {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{otherwise}:\n{}",
                self.screen()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Presses a key until the screen shows a text: one that comes together with a change of size, crossterm reads with
    /// the next one only.
    fn presses(&mut self, key: &str, text: &str) {
        for _ in 0..60 {
            self.press(key);
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(1) {
                if self.screen().contains(text) {
                    return;
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
        panic!("{text:?} does not come:\n{}", self.screen());
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.join(name))
            .unwrap()
            .trim()
            .to_owned()
    }

    fn resize(&self, rows: u16, columns: u16) {
        let mut sent = self.sent.lock().unwrap();
        sent.parser.screen_mut().set_size(rows, columns);
        let size = format!("stty -F {} rows {rows} cols {columns}", self.file("tty"));
        assert!(Command::new("sh").args(["-c", &size]).status().unwrap().success());
    }

    fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.file("pid"));
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for the end; the terminal must have been given back. Gives what stands on it then.
    #[track_caller]
    fn ends_with(mut self, code: &str) -> String {
        self.sees(&format!("ended with {code}"));
        self.script.wait().unwrap();
        assert_eq!(self.file("before"), self.file("after"), "the terminal's settings");
        {
            let sent = self.sent.lock().unwrap();
            assert!(
                !sent.parser.screen().alternate_screen(),
                "the screen is as it was"
            );
            assert!(!sent.parser.screen().hide_cursor(), "the cursor is back");
        }
        std::fs::remove_dir_all(&self.directory).unwrap();
        self.screen()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Where a test has failed: its terminal goes, and with it what runs there.
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

fn show(recording: &str) -> String {
    let recording = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/recordings")
        .join(recording);
    format!(
        "'{}' show '{}' --tui",
        env!("CARGO_BIN_EXE_ktrail"),
        recording.display()
    )
}

#[test]
fn keys_move_through_packets_and_journeys() {
    let Some(mut terminal) = Terminal::run("keys_move_through_packets_and_journeys", &show("dropped.ktrail"))
    else {
        return;
    };
    terminal.sees("=> dropped in nft_do_chain: NETFILTER_DROP");
    terminal.sees("recorded  ? help  q quit");
    terminal.sees("ip_send_skb: cpu 0, dig");
    assert!(terminal.sent.lock().unwrap().parser.screen().alternate_screen());
    // The row of a dropped packet is red.
    let red = |terminal: &Terminal| {
        let sent = terminal.sent.lock().unwrap();
        sent.parser.screen().cell(1, 12).map(vt100::Cell::fgcolor)
    };
    terminal.press("\t");
    terminal.sees(">    1 x udp 192.0.2.1");
    assert_eq!(red(&terminal), Some(vt100::Color::Idx(1)));
    terminal.press("j\x1b[Bj");
    terminal.sees("nft_do_chain_ipv4 [nf_tables]: cpu 0, dig");
    terminal.press("/");
    terminal.sees("find: _");
    terminal.press("freed\r");
    terminal.sees("kfree_skbmem: cpu 0, dig");
    terminal.press("?");
    terminal.sees("one row up, down");
    terminal.press("x");
    terminal.press("h/no such packet\r");
    terminal.sees("no packet has that; Esc lists all");
    terminal.press("\x1b");
    terminal.sees("     1 x udp");

    terminal.resize(14, 60);
    terminal.waits("the journey stays", |screen| !screen.contains("=> dropped"));
    terminal.presses("l", "netfilter  2266.430  nf_hook_slow");
    assert!(
        !terminal.screen().contains("took"),
        "a narrow screen has one pane:\n{}",
        terminal.screen()
    );
    terminal.presses("q", "ended with");
    let screen = terminal.ends_with("0");
    assert!(screen.contains("1 packet, 8 events; 0 events lost"), "{screen}");
}

#[test]
fn ctrl_c_and_signals_give_the_terminal_back() {
    for end in ["key", "INT", "TERM", "HUP"] {
        let name = format!("ctrl_c_and_signals_give_the_terminal_back-{end}");
        let Some(mut terminal) = Terminal::run(&name, &show("delivered.ktrail")) else {
            return;
        };
        terminal.sees("recorded  ? help  q quit");
        match end {
            "key" => terminal.press("\x03"),
            signal => terminal.signal(signal),
        }
        let screen = terminal.ends_with("0");
        assert!(screen.contains("1 packet, "), "{screen}");
    }
}

#[test]
fn it_ends_with_a_terminal_that_is_not_its_own() {
    let name = "it_ends_with_a_terminal_that_is_not_its_own";
    // In a session of its own it has no terminal that would send it SIGHUP.
    let Some(mut terminal) = Terminal::run(name, &format!("setsid {}", show("delivered.ktrail"))) else {
        return;
    };
    terminal.sees("recorded  ? help  q quit");
    let process = Path::new("/proc").join(terminal.file("pid"));
    let runs = || {
        // One that has ended and is not waited for is a zombie.
        let stat = std::fs::read_to_string(process.join("stat")).unwrap_or_default();
        stat.contains("ktrail") && !stat.contains(") Z ")
    };
    assert!(runs());
    terminal.script.kill().unwrap();
    terminal.script.wait().unwrap();
    let begun = Instant::now();
    while runs() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it goes on");
        thread::sleep(Duration::from_millis(10));
    }
    std::fs::remove_dir_all(&terminal.directory).unwrap();
}

#[test]
fn an_error_comes_after_the_screen() {
    let Some(terminal) = Terminal::run("an_error_comes_after_the_screen", &show("no-such.ktrail")) else {
        return;
    };
    let screen = terminal.ends_with("1");
    assert!(screen.contains("no-such.ktrail: No such file"), "{screen}");
}

#[test]
fn a_panic_gives_the_terminal_back() {
    const INSIDE: &str = "KTRAIL_TEST_PANICS";
    if std::env::var_os(INSIDE).is_some() {
        let names = Names::new(vec![], Reasons::new([]), Box::new(|_| None));
        let _screen = Handle::open(Rc::new(names), true, true, "tracing").unwrap();
        panic!("as the test wants it");
    }
    let own = std::env::current_exe().unwrap();
    let again = format!(
        "env {INSIDE}=1 '{}' --exact a_panic_gives_the_terminal_back --nocapture",
        own.display()
    );
    let Some(terminal) = Terminal::run("a_panic_gives_the_terminal_back", &again) else {
        return;
    };
    terminal.sees("ended with");
    let raw = terminal.raw();
    let left = raw.find("\x1b[?1049l").expect("the screen is left");
    let message = raw.find("as the test wants it").expect("the message comes");
    assert!(left < message, "the message can be read");
    terminal.ends_with("101");
}

#[test]
fn what_is_no_terminal_is_refused() {
    for args in [&["show", "/dev/null", "--tui"][..], &["trace", "--tui", "udp"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_ktrail"))
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty());
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "ktrail: --tui: standard output is not a terminal\n"
        );
    }
}
