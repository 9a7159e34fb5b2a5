//! What a run has created, on disk before it exists, so that whatever ends the run, it can be removed.
//!
//! One file a run, `/run/ktrail/experiment-PID.json`. A run removes its own things when it is dropped. After
//! kill -9 the file stays; its process is gone then, which [`leftovers`] sees by the process's number and start time.
//! Only what the ledger names is ever removed.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::tools::{self, run};

/// Where ledgers are.
const FOLDER: &str = "/run/ktrail";

/// A thing that was created, or is about to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Item {
    /// A network namespace, with all that runs and lives in it.
    Namespace {
        /// As `ip netns` knows it.
        name: String,
    },
    /// A network device in the host's namespace; its peer goes with it.
    Link {
        /// Its name.
        name: String,
    },
    /// A chain of iptables' filter table, and the one rule in OUTPUT that jumps to it.
    Chain {
        /// iptables-legacy or iptables-nft.
        tool: String,
        /// The namespace; the host's own if none.
        namespace: Option<String>,
        /// The chain's name.
        name: String,
    },
    /// An nftables table of the family ip.
    Table {
        /// The namespace; the host's own if none.
        namespace: Option<String>,
        /// The table's name.
        name: String,
    },
    /// A process.
    Process {
        /// Its number.
        pid: u32,
        /// When it started, in clock ticks since the machine did: proc(5), stat, field 22.
        start: u64,
    },
}

/// Why the ledger can't be kept.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", .path.display())]
pub struct Error {
    path: PathBuf,
    error: std::io::Error,
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    pid: u32,
    start: u64,
    /// The network namespace in which the run began, where its devices and rules are.
    home: u64,
    items: Vec<Item>,
}

/// The ledger of this run. Dropping it removes everything that it names.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: File,
}

impl Ledger {
    /// Begins this process's ledger.
    pub fn begin() -> Result<Ledger, Error> {
        Ledger::begin_in(Path::new(FOLDER))
    }

    fn begin_in(folder: &Path) -> Result<Ledger, Error> {
        let pid = std::process::id();
        let ledger = Ledger {
            path: folder.join(format!("experiment-{pid}.json")),
            file: File {
                pid,
                start: start_time(pid).unwrap_or(0),
                home: namespace_id("/proc/self/ns/net").unwrap_or(0),
                items: Vec::new(),
            },
        };
        let create = || {
            fs::create_dir_all(folder).map_err(|error| Error {
                path: folder.into(),
                error,
            })
        };
        create()?;
        // Another run that ends may have taken the empty folder away again.
        ledger
            .write()
            .or_else(|_| create().and_then(|()| ledger.write()))?;
        Ok(ledger)
    }

    /// Writes down what is about to be created. Whoever calls has made sure that it isn't there yet.
    pub fn add(&mut self, item: Item) -> Result<(), Error> {
        self.file.items.push(item);
        self.write()
    }

    /// Removes the item now, and strikes it out.
    pub fn remove(&mut self, item: &Item) -> Result<(), tools::Error> {
        remove(item, &Home::Here)?;
        self.file.items.retain(|i| i != item);
        // If this fails, the item is looked for once more at the end, and is not there.
        let _ = self.write();
        Ok(())
    }

    /// Strikes out what could not be created after all.
    pub fn strike(&mut self, item: &Item) {
        self.file.items.retain(|i| i != item);
        let _ = self.write();
    }

    /// Whether the item stands in it.
    pub fn has(&self, item: &Item) -> bool {
        self.file.items.contains(item)
    }

    /// Removes everything, the last first.
    pub fn clear(&mut self) -> Result<(), Vec<String>> {
        let problems = remove_all(&mut self.file.items, &Home::Here);
        if problems.is_empty() {
            forget(&self.path);
            return Ok(());
        }
        let _ = self.write();
        Err(problems)
    }

    fn write(&self) -> Result<(), Error> {
        let wrap = |error| Error {
            path: self.path.clone(),
            error,
        };
        let text = serde_json::to_string(&self.file).map_err(|e| wrap(e.into()))?;
        let new = self.path.with_extension("new");
        fs::write(&new, text).map_err(wrap)?;
        fs::rename(&new, &self.path).map_err(wrap)
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if let Err(problems) = self.clear() {
            for problem in problems {
                eprintln!("ktrail: left behind: {problem}");
            }
            eprintln!("ktrail: `ktrail clean` tries again");
        }
    }
}

/// What a run that no longer lives has left behind.
#[derive(Debug)]
pub struct Leftover {
    path: PathBuf,
    home: u64,
    /// The run's process.
    pub pid: u32,
    /// Its things.
    pub items: Vec<Item>,
}

impl Leftover {
    /// Removes all of it, and returns what could not be removed and why.
    pub fn remove(mut self) -> Vec<String> {
        let problems = remove_all(&mut self.items, &Home::of(self.home));
        if problems.is_empty() {
            forget(&self.path);
        }
        problems
    }
}

/// Removes a ledger, and the folder after the last one.
fn forget(ledger: &Path) {
    // What can't be removed is an empty ledger, which is removed the next time.
    let _ = fs::remove_file(ledger);
    let _ = ledger.parent().map(fs::remove_dir);
}

/// The leftovers of runs that were killed.
pub fn leftovers() -> Result<Vec<Leftover>, Error> {
    leftovers_in(Path::new(FOLDER))
}

fn leftovers_in(folder: &Path) -> Result<Vec<Leftover>, Error> {
    let wrap = |error| Error {
        path: folder.into(),
        error,
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(wrap(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(wrap)?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        if !name.starts_with("experiment-") || !name.ends_with(".json") {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(|error| Error {
            path: path.clone(),
            error,
        })?;
        let file: File = serde_json::from_str(&text).map_err(|e| Error {
            path: path.clone(),
            error: e.into(),
        })?;
        if start_time(file.pid) != Some(file.start) {
            found.push(Leftover {
                path,
                home: file.home,
                pid: file.pid,
                items: file.items,
            });
        }
    }
    Ok(found)
}

/// The way to the network namespace in which a run began.
enum Home {
    /// It is this process's.
    Here,
    /// It is another one, which this file stands for.
    At(PathBuf),
    /// Nothing holds it any more: it is gone, with all that was in it.
    Gone,
}

impl Home {
    fn of(id: u64) -> Home {
        if id == 0 || namespace_id("/proc/self/ns/net") == Some(id) {
            return Home::Here;
        }
        // Namespaces live by a process, or by a mount: `ip netns` and container engines keep them so.
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let named = mounts.lines().filter_map(|line| {
            // proc(5), mountinfo: the fourth field is the root within the file system, the fifth the place.
            let mut fields = line.split_whitespace().skip(3);
            (fields.next()? == format!("net:[{id}]")).then(|| fields.next().map(PathBuf::from))?
        });
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let running = processes.map(|entry| entry.path().join("ns/net"));
        named
            .chain(running)
            .find(|path| namespace_id(path) == Some(id))
            .map_or(Home::Gone, Home::At)
    }

    /// Runs a program there; in the namespace of this name if there is one.
    fn run(&self, namespace: &Option<String>, program: &str, args: &[&str]) -> Result<String, tools::Error> {
        match (self, namespace) {
            (Home::At(path), None) => {
                let net = format!("--net={}", path.display());
                run(None, "nsenter", &[&[net.as_str(), program], args].concat())
            }
            _ => run(namespace.as_deref(), program, args),
        }
    }

    /// Whether what is in the namespace of this name, or else in this one, can still be there.
    fn has(&self, namespace: &Option<String>) -> bool {
        match namespace {
            Some(name) => namespace_exists(name),
            None => !matches!(self, Home::Gone),
        }
    }
}

/// A network namespace's number, by a file that stands for it; namespaces(7).
fn namespace_id(path: impl AsRef<Path>) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

fn remove_all(items: &mut Vec<Item>, home: &Home) -> Vec<String> {
    let mut problems = Vec::new();
    let mut kept = Vec::new();
    while let Some(item) = items.pop() {
        if let Err(error) = remove(&item, home) {
            problems.push(format!("{item}: {error}"));
            kept.insert(0, item);
        }
    }
    *items = kept;
    problems
}

/// When the process started; none if there is no such process.
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name, in parentheses, may contain blanks and parentheses.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Whether there is a namespace of this name.
pub fn namespace_exists(name: &str) -> bool {
    Path::new("/run/netns").join(name).exists()
}

fn remove(item: &Item, home: &Home) -> Result<(), tools::Error> {
    match item {
        Item::Namespace { name } => {
            if namespace_exists(name) {
                let pids = run(None, "ip", &["netns", "pids", name])?;
                for pid in pids.split_whitespace() {
                    // It may have ended by itself.
                    let _ = run(None, "kill", &["-KILL", pid]);
                }
                run(None, "ip", &["netns", "del", name])?;
            }
        }
        Item::Link { name } => {
            let there = || home.run(&None, "ip", &["link", "show", "dev", name]).is_ok();
            // Its peer's namespace may be on its way out, and takes it along meanwhile.
            if home.has(&None) && there() && home.run(&None, "ip", &["link", "del", name]).is_err() && there()
            {
                home.run(&None, "ip", &["link", "del", name])?;
            }
        }
        Item::Chain {
            tool,
            namespace,
            name,
        } => {
            let iptables = |args: &[&str]| home.run(namespace, tool, &[&["-w", "10"], args].concat());
            if home.has(namespace) && iptables(&["-n", "-L", name]).is_ok() {
                if iptables(&["-C", "OUTPUT", "-j", name]).is_ok() {
                    iptables(&["-D", "OUTPUT", "-j", name])?;
                }
                iptables(&["-F", name])?;
                iptables(&["-X", name])?;
            }
        }
        Item::Table { namespace, name } => {
            let nft = |args: &[&str]| home.run(namespace, "nft", args);
            if home.has(namespace) && nft(&["list", "table", "ip", name]).is_ok() {
                nft(&["delete", "table", "ip", name])?;
            }
        }
        Item::Process { pid, start } => {
            // It may end by itself meanwhile.
            if start_time(*pid) == Some(*start)
                && let Err(error) = run(None, "kill", &["-KILL", &pid.to_string()])
                && start_time(*pid) == Some(*start)
            {
                return Err(error);
            }
        }
    }
    Ok(())
}

impl std::fmt::Display for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let within = |namespace: &Option<String>| {
            namespace
                .as_ref()
                .map_or(String::new(), |n| format!(" in the namespace {n}"))
        };
        match self {
            Item::Namespace { name } => write!(f, "network namespace {name}"),
            Item::Link { name } => write!(f, "device {name}"),
            Item::Chain {
                tool,
                namespace,
                name,
            } => write!(f, "{tool} chain {name}{}", within(namespace)),
            Item::Table { namespace, name } => write!(f, "nft table ip {name}{}", within(namespace)),
            Item::Process { pid, .. } => write!(f, "process {pid}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("ktrail-ledger-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_living_run_leaves_nothing_over() {
        let folder = folder("alive");
        let ledger = Ledger::begin_in(&folder).unwrap();
        assert_eq!(leftovers_in(&folder).unwrap().len(), 0);
        let path = ledger.path.clone();
        assert!(path.exists());
        drop(ledger);
        assert!(!folder.exists());
    }

    #[test]
    fn a_process_is_known_by_its_start_time_and_removed() {
        let folder = folder("dead");
        fs::create_dir_all(&folder).unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let item = Item::Process {
            pid: child.id(),
            start: start_time(child.id()).unwrap(),
        };
        // This process's number with another start time: a run that is no more.
        let file = File {
            pid: std::process::id(),
            start: 1,
            home: 0,
            items: vec![item.clone()],
        };
        let path = folder.join("experiment-1.json");
        fs::write(&path, serde_json::to_string(&file).unwrap()).unwrap();
        let mut left = leftovers_in(&folder).unwrap();
        assert_eq!(left[0].items, [item]);
        assert_eq!(left.remove(0).remove(), Vec::<String>::new());
        assert!(!child.wait().unwrap().success());
        assert!(!folder.exists());
    }
}
