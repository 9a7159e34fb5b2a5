//! Golden tests of the back end. `KTRAIL_BLESS=1` rewrites what is expected.
//!
//! - `golden/codegen/*.ir`: programs; beside each, in `.asm`, the instructions. A comment in the first lines says
//!   what for: `# packet: kernel`, `# features: cpu_v4 may_goto`.
//! - `golden/verify/*.txt`: broken programs, each under a title, with the verifier's messages behind `=>`.

use std::fs;
use std::path::{Path, PathBuf};

use ktrail_ebpf::codegen::{Options, PacketAccess, generate};
use ktrail_ebpf::ir::{parse, verify};
use ktrail_ebpf::kernel::{Arch, Features, RdonlyCast, Session};

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// Compare with the file, or rewrite it.
fn compare(path: &Path, seen: &str, failures: &mut Vec<String>) {
    if std::env::var_os("KTRAIL_BLESS").is_some() {
        fs::write(path, seen).unwrap();
        return;
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    if expected == seen {
        return;
    }
    let differs = expected.lines().zip(seen.lines()).position(|(a, b)| a != b);
    let line = differs.unwrap_or(expected.lines().count().min(seen.lines().count()));
    failures.push(format!(
        "{} differs from line {} on; now:\n{}",
        path.display(),
        line + 1,
        seen.lines()
            .skip(line.saturating_sub(3))
            .take(20)
            .collect::<Vec<_>>()
            .join("\n")
    ));
}

fn check(failures: Vec<String>) {
    assert!(
        failures.is_empty(),
        "{}\n(KTRAIL_BLESS=1 accepts)",
        failures.join("\n\n")
    );
}

/// The words behind `# key:` in a text's comments.
fn setting<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let prefix = format!("# {key}:");
    let line = text.lines().find_map(|line| line.strip_prefix(prefix.as_str()));
    line.unwrap_or("").split_whitespace().collect()
}

#[test]
fn programs_become_these_instructions() {
    let mut failures = vec![];
    for path in files("codegen", "ir") {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.display();
        let program = parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let packet = match setting(&text, "packet").first() {
            None | Some(&"kernel") => PacketAccess::KernelRead,
            Some(&"skb") => PacketAccess::SkbLoad,
            Some(&"memory") => PacketAccess::Memory,
            Some(other) => panic!("{name}: unknown packet access {other}"),
        };
        let mut features = Features {
            arch: Arch::X86_64,
            ..Features::default()
        };
        for feature in setting(&text, "features") {
            match feature {
                "aarch64" => features.arch = Arch::Aarch64,
                "atomic_fetch" => features.atomic_fetch = true,
                "session" => {
                    features.session = Some(Session {
                        is_return: 1001,
                        cookie: 1002,
                    });
                }
                "cpu_v4" => features.cpu_v4 = true,
                "may_goto" => features.may_goto = true,
                "rdonly_cast" => {
                    features.rdonly_cast = Some(RdonlyCast {
                        function: 2001,
                        bytes: 2002,
                    });
                }
                other => panic!("{name}: unknown feature {other}"),
            }
        }
        let options = Options {
            packet,
            features: &features,
        };
        let seen = match generate(&program, &options) {
            Ok(object) => object.disassemble(),
            Err(error) => format!("error: {error}\n"),
        };
        compare(&path.with_extension("asm"), &seen, &mut failures);
    }
    check(failures);
}

#[test]
fn broken_programs_get_these_messages() {
    let mut failures = vec![];
    let mut cases = 0;
    for path in files("verify", "txt") {
        let text = fs::read_to_string(&path).unwrap();
        let mut sections = text.split("\n## ");
        // What stands before the first title is for the reader and, behind `prelude:`, for every program.
        let head = sections.next().unwrap_or_default();
        let prelude = head.split_once("prelude:\n").map_or("", |(_, p)| p);
        let mut seen = head.to_string();
        for section in sections {
            let (title, rest) = section.split_once('\n').unwrap_or((section, ""));
            let body = rest.split("\n=>").next().unwrap_or_default().trim_end();
            let source = format!("{prelude}\n{body}\n");
            let program =
                parse(&source).unwrap_or_else(|e| panic!("{}: {title}: {e}\n{source}", path.display()));
            let errors = match verify(&program) {
                Err(errors) => errors,
                Ok(()) => panic!("{}: {title}: nothing is found", path.display()),
            };
            seen += &format!("\n## {title}\n{body}");
            for error in errors {
                seen += &format!("\n=> {error}");
            }
            seen += "\n";
            cases += 1;
        }
        compare(&path, &seen, &mut failures);
    }
    assert!(cases > 50, "{cases} cases");
    check(failures);
}
