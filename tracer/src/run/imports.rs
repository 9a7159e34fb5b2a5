//! The files that a script imports: read, and put behind its own text.
//!
//! A name is looked up beside the file that imports it, then beside the script itself. Each file counts once, however
//! often and in whatever circle it is imported. Deliberately absent: directories, C headers and compiled objects.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ktrail_ebpf::script::ast::{Import, Span};
use ktrail_ebpf::script::{self, Diagnostic, MAX_TEXT};

use super::events::Source;

/// Put everything that `source` imports behind it; what can't be imported goes to `diagnostics`.
pub fn resolve(source: &mut Source, diagnostics: &mut Vec<Diagnostic>) {
    let mut known: Vec<PathBuf> = fs::canonicalize(&source.name).into_iter().collect();
    let beside = |name: &str| {
        Path::new(name)
            .parent()
            .map(Path::to_path_buf)
            .unwrap_or_default()
    };
    let top = beside(&source.name);
    // Files found on the way join the end and are looked at in turn.
    let mut next: usize = 0;
    loop {
        let (start, name) = match next.checked_sub(1) {
            None => (0, source.name.clone()),
            Some(file) => match source.imported.get(file) {
                Some(file) => file.clone(),
                None => return,
            },
        };
        let end = source
            .imported
            .get(next)
            .map_or(source.text.len(), |(start, _)| *start);
        next += 1;
        let directory = beside(&name);
        for import in script::imports(&source.text[start..end]) {
            let mut path = directory.join(&import.path);
            let other = top.join(&import.path);
            if !path.exists() && other.exists() {
                path = other;
            }
            match read(&path, &mut known) {
                Ok(None) => {}
                Ok(Some(text)) if source.text.len() + text.len() >= MAX_TEXT => {
                    let message = format!(
                        "with {} the script is longer than {MAX_TEXT} bytes",
                        path.display()
                    );
                    diagnostics.push(Diagnostic::error(place(&import, start), message));
                }
                Ok(Some(text)) => {
                    // On a line of its own, so that an excerpt ends with its file.
                    source.text.push('\n');
                    source
                        .imported
                        .push((source.text.len(), path.display().to_string()));
                    source.text.push_str(&text);
                }
                Err((message, hint)) => {
                    let mut error = Diagnostic::error(place(&import, start), message);
                    error.hint = hint;
                    diagnostics.push(error);
                }
            }
        }
    }
}

fn place(import: &Import, start: usize) -> Span {
    Span::new(
        import.span.start as usize + start,
        import.span.end as usize + start,
    )
}

/// A file's text; none if it is known already. Otherwise what is wrong, and the way out.
fn read(path: &Path, known: &mut Vec<PathBuf>) -> Result<Option<String>, (String, Option<String>)> {
    let name = path.display();
    let wrong = |error: std::io::Error| (format!("can't import {name}: {error}"), None);
    let real = fs::canonicalize(path).map_err(wrong)?;
    if known.contains(&real) {
        return Ok(None);
    }
    let hint = |text: &str| Some(text.to_string());
    if !real.is_file() {
        return Err((
            format!("can't import {name}: it is not a file"),
            hint("import its files one by one"),
        ));
    }
    if !real.extension().is_some_and(|e| e == "bt" || e == "probe") {
        return Err((
            format!("can't import {name}: only .bt and .probe files can be imported"),
            hint("types come from the kernel's BTF; C code isn't understood"),
        ));
    }
    // Anybody could put a script there that root runs.
    if let Some(directory) = real.parent()
        && fs::metadata(directory).map_err(wrong)?.mode() & 0o002 != 0
    {
        return Err((
            format!(
                "can't import {name}: everybody can write into {}",
                directory.display()
            ),
            hint("keep it in a directory that only its owner can write into"),
        ));
    }
    let text = fs::read_to_string(&real).map_err(wrong)?;
    known.push(real);
    Ok(Some(text))
}
