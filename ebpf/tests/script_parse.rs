//! The probe language's front half: texts and their trees, wrong texts and their messages, and any text at all.
//!
//! Golden files lie beside the scripts; `KTRAIL_BLESS=1` writes them anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ktrail_ebpf::script::{Diagnostic, ParseOptions, ast, parse, print, render_all};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/script")
        .join(name)
}

/// The scripts of a folder, sorted.
fn scripts(folder: &Path) -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|ext| ext == "probe"))
        .collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

/// Compares `actual` with the file beside `script`, or writes it.
fn golden(script: &Path, extension: &str, actual: &str, wrong: &mut Vec<String>) {
    let path = script.with_extension(extension);
    if std::env::var_os("KTRAIL_BLESS").is_some() {
        fs::write(&path, actual).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if expected != actual {
        wrong.push(format!("{}:\n{actual}", path.display()));
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

#[test]
fn right_scripts_have_their_trees() {
    let mut wrong = Vec::new();
    let found = scripts(&folder("ok"));
    assert!(found.len() >= 10, "only {} scripts", found.len());
    let options = ParseOptions {
        positional: vec!["80".to_string()],
        ..ParseOptions::default()
    };
    for (path, text) in found {
        let (script, diagnostics) = parse(&text, &options);
        if !diagnostics.is_empty() {
            wrong.push(render_all(&diagnostics, &file_name(&path), &text));
        }
        golden(&path, "ast", &print::print(&script), &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn wrong_scripts_have_their_messages() {
    let mut wrong = Vec::new();
    let found = scripts(&folder("err"));
    assert!(found.len() >= 15, "only {} scripts", found.len());
    for (path, text) in found {
        let (_, diagnostics) = parse(&text, &ParseOptions::default());
        if !diagnostics.iter().any(Diagnostic::is_error) {
            wrong.push(format!("{} has no error", path.display()));
        }
        golden(
            &path,
            "err",
            &render_all(&diagnostics, &file_name(&path), &text),
            &mut wrong,
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn shipped_scripts_parse() {
    let found = scripts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../probes"));
    assert!(found.len() >= 10, "only {} scripts", found.len());
    for (path, text) in found {
        let (script, diagnostics) = parse(&text, &ParseOptions::default());
        let shown = render_all(&diagnostics, &file_name(&path), &text);
        assert_eq!(shown, "");
        assert!(!script.probes.is_empty(), "{}", path.display());
    }
}

#[test]
fn expressions_are_numbered_without_gaps() {
    struct Seen(Vec<u32>);
    impl Seen {
        fn expr(&mut self, expr: &ast::Expr) {
            self.0.push(expr.id);
            if let ast::ExprKind::Binary(_, left, right) = &expr.kind {
                self.expr(left);
                self.expr(right);
            }
        }
    }
    let text = "macro m(e) { e * e } begin { @ = m(1 + 2) + m(3); }";
    let (script, diagnostics) = parse(text, &ParseOptions::default());
    assert_eq!(diagnostics, []);
    let mut seen = Seen(Vec::new());
    for statement in &script.probes[0].body.statements {
        let ast::StmtKind::Assign { target, value, .. } = &statement.kind else {
            panic!("{statement:?}");
        };
        seen.expr(target);
        seen.expr(value);
    }
    seen.0.sort_unstable();
    let expected: Vec<u32> = (0..script.expressions).collect();
    assert_eq!(seen.0, expected);
}

/// Parses, checks that every place can be shown, and that it doesn't take long.
fn survives(text: &str) -> (ast::Script, Vec<Diagnostic>) {
    let start = Instant::now();
    let (script, diagnostics) = parse(text, &ParseOptions::default());
    let shown = render_all(&diagnostics, "any", text);
    assert_eq!(shown.is_empty(), diagnostics.is_empty());
    for diagnostic in &diagnostics {
        let ast::Span { start, end } = diagnostic.span;
        assert!(start <= end && end as usize <= text.len(), "{diagnostic:?}");
    }
    if !diagnostics.iter().any(Diagnostic::is_error) {
        print::print(&script);
    }
    let took = start.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?} for {:.60}", text);
    (script, diagnostics)
}

fn is_refused(text: &str) {
    let (_, diagnostics) = survives(text);
    assert!(diagnostics.iter().any(Diagnostic::is_error), "{:.60}", text);
}

#[test]
fn nothing_nests_too_deep() {
    let n = 1_000;
    for unit in [
        "(",
        "-",
        "!",
        "*",
        "&",
        "++",
        "[",
        "{",
        "@a[",
        "(1,",
        "f(",
        "sizeof(",
        "typeof((",
        "(typeof((",
        "(sizeof((",
        "((uint8)",
        "(uint8)",
        "{ $a = ",
        "1 ? ",
        "1 ?: ",
        "1 ? 2 : ",
        "if 1 { ",
        "if 1 { 1 } else ",
        "comptime ",
        "(a=",
        "1 + ",
        "1 ||",
        "1 | 2 & ",
        "$a.b",
        "$a[0]",
        "while 1 { ",
        "unroll 2 {",
        "for $i : 0..1 { ",
        "$a == ",
        "offsetof(",
        "container_of(",
        "(struct x *)",
        "(a)(",
        "(a[",
        "(a, b)(",
    ] {
        is_refused(&format!("begin {{ $x = {}", unit.repeat(n)));
        is_refused(&format!("begin {{ $x = {} 1; }}", unit.repeat(n)));
        is_refused(&format!("begin {{ {} ; }}", unit.repeat(n)));
        is_refused(&format!("begin {{ let $x : {} ; }}", unit.repeat(n)));
        is_refused(&format!("kprobe:x / {} / {{ }}", unit.repeat(n)));
        is_refused(&unit.repeat(n));
        survives(&format!("struct a {{ {}", unit.repeat(n)));
    }
    is_refused(&format!("begin {{ $x = {}1{}; }}", "(".repeat(n), ")".repeat(n)));
    is_refused(&format!("begin {{ $x = 1{}; }}", " + 1".repeat(n)));
    is_refused(&format!("begin {{ $x = 1; $y = $x{}; }}", ".a".repeat(n)));
    is_refused(&format!("begin {{ {}{} }}", "if 1 { ".repeat(n), "}".repeat(n)));
    is_refused(&"struct a { ".repeat(n));
    is_refused(&"struct a { int b[".repeat(n));
    is_refused(&format!("begin {{ let $x : int{}; }}", "*".repeat(n)));
    is_refused(&format!("begin {{ let $x : {}int; }}", "*".repeat(n)));
}

#[test]
fn nothing_grows_without_bound() {
    let bomb = |make: &dyn Fn(usize) -> String| (0..64).map(make).collect::<String>();
    let defines = bomb(&|i| format!("#define D{} D{i} + D{i}\n", i + 1));
    is_refused(&format!("#define D0 1\n{defines}begin {{ $x = D64; }}"));
    is_refused("#define A B\n#define B A\nbegin { $x = A; }\nend { } }");
    let macros = bomb(&|i| format!("macro m{}(e) {{ m{i}(e) + m{i}(e) }}\n", i + 1));
    is_refused(&format!("macro m0(e) {{ e }}\n{macros}begin {{ $x = m64(1); }}"));
    let chain = bomb(&|i| format!("macro m{}(e) {{ m{i}(-----------e) }}\n", i + 1));
    is_refused(&format!("macro m0(e) {{ e }}\n{chain}begin {{ $x = m64(1); }}"));
    is_refused(&"#\u{e4}\n".repeat(10_000));
    is_refused(&"#include <x>\n".repeat(8_000));
    is_refused(&"0x,".repeat(30_000));
    is_refused(&format!("begin {{ f({}) }}", "0x,".repeat(30_000)));
    is_refused(&"a".repeat(ktrail_ebpf::script::MAX_TEXT + 1));
    is_refused(&"\"".repeat(10_000));
    is_refused(&"/*".repeat(10_000));
    is_refused(&"macro a{}".repeat(8_000));
    is_refused(&"let @a=hash(1);".repeat(6_000));
    is_refused(&"begin {".repeat(8_000));
    is_refused(&"begin {} }".repeat(8_000));
    survives(&"begin {}".repeat(10_000));
    survives(&"kprobe:a,".repeat(10_000));
    survives(&format!(
        "begin {{ {} }}",
        "if (1) { 1 } else { 2 } ".repeat(30_000)
    ));
    let many: String = (0..4_000)
        .map(|i| format!("macro a{i}{{a{}}}\n", i + 1))
        .collect();
    is_refused(&format!("{many}begin {{ a0; }}"));
    let functions: String = (0..4_000).map(|i| format!("fn f{i}(){{}}\n")).collect();
    survives(&format!("{functions}begin {{ }}"));
    let variables: String = (0..4_000).map(|i| format!("$a{i}=1;")).collect();
    survives(&format!("begin {{ {variables} }}"));
    let misspelt: String = (0..2_000).map(|i| format!("b{i}();")).collect();
    is_refused(&format!("begin {{ {variables} {misspelt} }}"));
    let unset: String = (0..2_000).map(|i| format!("@=$b{i};")).collect();
    is_refused(&format!("begin {{ {variables} {unset} }}"));
}

/// Numbers that only look random: the same at every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

#[test]
fn any_text_is_survived() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut texts: Vec<String> = Vec::new();
    for name in ["ok", "err"] {
        texts.extend(scripts(&folder(name)).into_iter().map(|(_, text)| text));
    }
    let words: Vec<&str> = texts
        .iter()
        .flat_map(|text| text.split_inclusive([' ', '(', ')', ';', '\n']))
        .collect();
    for round in 0..1500 {
        let text = match round % 3 {
            0 => {
                let len = random.below(200);
                let bytes: Vec<u8> = (0..len).map(|_| random.below(256) as u8).collect();
                String::from_utf8_lossy(&bytes).into_owned()
            }
            1 => {
                let count = random.below(80);
                let soup: String = (0..count).map(|_| words[random.below(words.len())]).collect();
                format!("begin {{ {soup}")
            }
            _ => {
                let mut bytes = texts[random.below(texts.len())].clone().into_bytes();
                for _ in 0..1 + random.below(8) {
                    let at = random.below(bytes.len());
                    let until = (at + random.below(20)).min(bytes.len());
                    match random.below(4) {
                        0 if at < bytes.len() => bytes[at] = random.below(128) as u8,
                        1 => drop(bytes.drain(at..until)),
                        2 => {
                            let piece = bytes[at..until].to_vec();
                            bytes.splice(at..at, piece);
                        }
                        _ => bytes.truncate(at.max(1)),
                    }
                    if bytes.is_empty() {
                        break;
                    }
                }
                String::from_utf8_lossy(&bytes).into_owned()
            }
        };
        survives(&text);
    }
}

#[test]
fn imported_files_are_understood_each_for_itself() {
    let own = "import \"other.bt\";\n#define LIMIT 1\nBEGIN { print(half(LIMIT)); }\n#ifdef NEVER\n";
    let other = "#!/usr/bin/env ktrail\nmacro half(x) { x / 2 }\nEND { print(LIMIT); /* open";
    let text = format!("{own}{other}");
    assert_eq!(
        ktrail_ebpf::script::imports(own)
            .iter()
            .map(|i| &i.path[..])
            .collect::<Vec<_>>(),
        ["other.bt"]
    );
    let options = ParseOptions {
        imported: vec![own.len()],
        ..ParseOptions::default()
    };
    let (script, diagnostics) = parse(&text, &options);
    // A condition that is left open hides nothing of the other file.
    let messages: Vec<_> = diagnostics
        .iter()
        .map(|d| (d.span.start as usize, &d.message[..]))
        .collect();
    assert_eq!(script.macros.len(), 1);
    assert!(
        messages.contains(&(own.len() + other.find("/*").unwrap(), "this comment never ends")),
        "{messages:?}"
    );
    assert!(messages.iter().any(|(at, _)| *at < own.len()), "{messages:?}");
}
