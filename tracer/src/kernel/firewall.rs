//! What a machine's firewall says about its rules: nft and iptables-legacy are asked, in the network namespace where the
//! rules are, by nsenter where that is another one.
//!
//! Deliberately absent: reading rules from the kernel. Their texts are made by the programs that made the rules.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A chain of a firewall.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chain {
    /// Inode of the network namespace.
    pub netns: u32,
    /// The table's family, `NFPROTO_*`.
    pub family: u8,
    /// The table.
    pub table: Vec<u8>,
    /// The chain.
    pub name: Vec<u8>,
    /// It is iptables-legacy's, not nftables'.
    pub legacy: bool,
}

/// A listing is kept for so long, because rules change; or for so many times as long as it took, because whoever asks
/// waits meanwhile, and large rulesets take seconds.
const LIFE: Duration = Duration::from_secs(1);
const LIFE_FACTOR: u32 = 20;

/// Lists chains, and keeps each listing for a while.
#[derive(Default)]
pub struct Firewall {
    /// Until when, and what.
    listings: RefCell<HashMap<Chain, (Instant, Option<String>)>>,
}

impl Firewall {
    /// What the chain's own program prints of it: `nft -a list chain` or `iptables-legacy -S`. None if the program isn't
    /// installed, refuses, or the network namespace can't be found.
    pub fn listing(&self, chain: &Chain) -> Option<String> {
        let mut listings = self.listings.borrow_mut();
        let begun = Instant::now();
        if let Some((end, listing)) = listings.get(chain)
            && begun < *end
        {
            return listing.clone();
        }
        let listing = ask(chain);
        let life = LIFE.max(begun.elapsed() * LIFE_FACTOR);
        listings.insert(chain.clone(), (Instant::now() + life, listing.clone()));
        listing
    }
}

fn ask(chain: &Chain) -> Option<String> {
    let words = command(chain)?;
    let netns = place(chain.netns)?;
    let mut command = match netns.as_os_str().is_empty() {
        true => Command::new(&words[0]),
        false => {
            let mut entering = OsString::from("--net=");
            entering.push(netns);
            let mut command = Command::new("nsenter");
            command.arg(entering).arg(&words[0]);
            command
        }
    };
    let output = command
        .args(&words[1..])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The program that lists a chain, and its arguments.
fn command(chain: &Chain) -> Option<Vec<OsString>> {
    let (table, name) = (OsStr::from_bytes(&chain.table), OsStr::from_bytes(&chain.name));
    let words: Vec<&OsStr> = if chain.legacy {
        let program = match chain.family {
            2 => "iptables-legacy",
            10 => "ip6tables-legacy",
            _ => return None,
        };
        [program, "-w", "1", "-t"]
            .map(OsStr::new)
            .into_iter()
            .chain([table, OsStr::new("-S"), name])
            .collect()
    } else {
        let family = match chain.family {
            1 => "inet",
            2 => "ip",
            3 => "arp",
            5 => "netdev",
            7 => "bridge",
            10 => "ip6",
            _ => return None,
        };
        ["nft", "-a", "list", "chain", family]
            .map(OsStr::new)
            .into_iter()
            .chain([table, name])
            .collect()
    };
    Some(words.into_iter().map(OsStr::to_owned).collect())
}

/// A path to the network namespace with that inode; the empty path for our own.
fn place(inode: u32) -> Option<PathBuf> {
    let is = |path: &Path| std::fs::metadata(path).is_ok_and(|meta| meta.ino() == u64::from(inode));
    if is(Path::new("/proc/self/ns/net")) {
        return Some(PathBuf::new());
    }
    let named = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let of_processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    named
        .map(|entry| entry.path())
        .chain(of_processes.map(|entry| entry.path().join("ns/net")))
        .find(|path| is(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_listed_by_their_own_programs() {
        let mut chain = Chain {
            netns: 1,
            family: 10,
            table: b"filter".into(),
            name: b"INPUT".into(),
            legacy: true,
        };
        let line = |chain: &Chain| command(chain).map(|words| words.join(OsStr::new(" ")));
        assert_eq!(
            line(&chain),
            Some("ip6tables-legacy -w 1 -t filter -S INPUT".into())
        );
        (chain.family, chain.legacy) = (1, false);
        assert_eq!(line(&chain), Some("nft -a list chain inet filter INPUT".into()));
        chain.family = 77;
        assert_eq!(line(&chain), None);
    }

    #[test]
    fn our_own_namespace_needs_no_entering() {
        let own = std::fs::metadata("/proc/self/ns/net")
            .expect("/proc is mounted")
            .ino();
        assert_eq!(place(own as u32), Some(PathBuf::new()));
        assert_eq!(place(1), None, "no namespace has this inode");
    }
}
