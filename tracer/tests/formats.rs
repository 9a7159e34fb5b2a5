//! The output formats, made of recordings from the lab and read back by the programs that they are for: JSON by a
//! validator with the documented schema, the capture by tshark, the page by a browser.
//!
//! `recordings/*.ktrail` are two DNS queries on Debian's 6.12 kernel, the second one dropped by a rule.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn recording(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/recordings")
        .join(name)
}

/// What `ktrail show` prints.
fn show(name: &str, args: &[&str]) -> Vec<u8> {
    let output = Command::new(env!("CARGO_BIN_EXE_ktrail"))
        .arg("show")
        .arg(recording(name))
        .args(args)
        .output()
        .expect("ktrail runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{stderr}");
    output.stdout
}

fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("ktrail-formats-{}-{name}", std::process::id()))
}

/// Run a program; none if it isn't installed.
fn run(program: &str, args: &[&str]) -> Option<Output> {
    match Command::new(program).args(args).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        output => Some(output.expect("it starts")),
    }
}

/// Checks each line that follows; in the schema no object may have a field that isn't described.
const VALIDATE: &str = r#"
import json, sys, jsonschema
def close(node):
    if isinstance(node, dict):
        if "properties" in node:
            node["additionalProperties"] = False
        for part in node.values():
            close(part)
    elif isinstance(node, list):
        for part in node:
            close(part)
schema = json.load(open(sys.argv[1]))
close(schema)
validator = jsonschema.Draft202012Validator(schema)
validator.check_schema(schema)
kinds = set()
for file in sys.argv[2:]:
    for number, line in enumerate(open(file), 1):
        line = json.loads(line)
        kinds.add(line["type"])
        errors = list(validator.iter_errors(line))
        if errors:
            sys.exit(f"{file}:{number}: " + "\n".join(str(e)[:2000] for e in errors))
for broken in ({}, {"version": 2, "type": "summary"}, {**line, "packets": -1}, {**line, "more": 1}):
    if validator.is_valid(broken):
        sys.exit(f"the schema takes {broken}")
print(" ".join(sorted(kinds)))
"#;

#[test]
fn json_is_as_its_schema_says() {
    // A PATH may put another Python before the system's, which has the package.
    let python = ["python3", "/usr/bin/python3"]
        .into_iter()
        .find(|python| run(python, &["-c", "import jsonschema"]).is_some_and(|out| out.status.success()));
    let Some(python) = python else {
        println!(
            "ktrail-test-skip: json_is_as_its_schema_says: no Python with jsonschema: apt-get install python3-jsonschema"
        );
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<PathBuf> = ["delivered.ktrail", "dropped.ktrail"]
        .iter()
        .flat_map(|name| {
            [
                ("", vec!["--output", "json"]),
                ("live-", vec!["--live", "--output", "json"]),
            ]
            .map(|(how, args)| {
                let file = temporary(&format!("{how}{name}.json"));
                std::fs::write(&file, show(name, &args)).expect("a temporary file");
                file
            })
        })
        .collect();
    // Made-up journeys with what the recordings lack.
    let golden = [
        "journey.json",
        "busy-live.json",
        "rules.json",
        "on-request.json",
        "beneath.json",
    ]
    .map(|name| root.join("tests/golden").join(name));
    let made = files.clone();
    files.extend(golden);
    let schema = root.join("../docs/json.schema.json");
    let mut args = vec!["-c", VALIDATE, schema.to_str().expect("UTF-8")];
    args.extend(files.iter().map(|file| file.to_str().expect("UTF-8")));
    let output = run(python, &args).expect("it ran before");
    made.iter()
        .for_each(|file| std::fs::remove_file(file).expect("it was written"));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "event journey summary"
    );
}

#[test]
fn the_capture_opens_in_wireshark() {
    let file = temporary("delivered.pcapng");
    std::fs::write(&file, show("delivered.ktrail", &["--output", "pcapng"])).expect("a temporary file");
    let mut args = vec!["-n", "-r", file.to_str().expect("UTF-8"), "-T", "fields"];
    for field in ["frame.interface_name", "ip.dst", "udp.dstport", "frame.comment"] {
        args.extend(["-e", field]);
    }
    let output = run("tshark", &args);
    std::fs::remove_file(&file).expect("it was written");
    let Some(output) = output else {
        println!("ktrail-test-skip: the_capture_opens_in_wireshark: no tshark: apt-get install tshark");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let hook: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("nf_hook_slow\t8.8.8.8\t53\t"))
        .collect();
    assert!(
        !hook.is_empty() && hook[0].contains("packet 1, copy 1: nf_hook_slow (netfilter), "),
        "{text}"
    );
    assert!(text.contains("delivered to dnsmasq"), "{text}");
}

#[test]
fn the_page_opens_in_a_browser() {
    let file = temporary("dropped.html");
    std::fs::write(&file, show("dropped.ktrail", &["--output", "html"])).expect("a temporary file");
    let profile = temporary("profile");
    let url = format!("file://{}", file.display());
    let data = format!("--user-data-dir={}", profile.display());
    let args = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=5000",
        &data,
        "--dump-dom",
        &url,
    ];
    let output = run("chromium", &args);
    std::fs::remove_file(&file).expect("it was written");
    let _ = std::fs::remove_dir_all(&profile);
    let Some(output) = output else {
        println!(
            "ktrail-test-skip: the_page_opens_in_a_browser: no chromium here, and it takes minutes to install"
        );
        return;
    };
    let page = String::from_utf8_lossy(&output.stdout);
    // What the script made, not what the file says: rows of the table, and the fate in its colour.
    for made in [
        "<div class=\"dropped\">dropped in nft_do_chain: NETFILTER_DROP",
        "nf_hook_slow</td>",
        "aria-selected=\"true\"",
    ] {
        assert!(page.contains(made), "{made} is missing in:\n{page}");
    }
}
