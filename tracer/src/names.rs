//! The system's names for hosts, services, protocols, networks and devices.
//!
//! Hosts go through the system's resolver; the rest stands in files under `/etc`.

use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use ktrail_ebpf::filter::{Names, Transport};

use crate::kernel::places;

/// The names of this system.
#[derive(Clone, Debug)]
pub struct System {
    etc: PathBuf,
}

impl Default for System {
    fn default() -> Self {
        System { etc: "/etc".into() }
    }
}

impl System {
    /// The fields of the lines of a file, without comments; none if there is no such file.
    fn table(&self, file: &str) -> Vec<Vec<String>> {
        let text = std::fs::read_to_string(self.etc.join(Path::new(file))).unwrap_or_default();
        text.lines()
            .map(|line| line.split('#').next().unwrap_or(""))
            .map(|line| line.split_whitespace().map(str::to_string).collect::<Vec<_>>())
            .filter(|fields| fields.len() > 1)
            .collect()
    }
}

impl Names for System {
    fn host(&self, name: &str) -> Vec<IpAddr> {
        let mut hosts: Vec<IpAddr> = self
            .table("hosts")
            .iter()
            .filter(|fields| fields[1..].iter().any(|known| known == name))
            .filter_map(|fields| fields[0].parse().ok())
            .collect();
        if hosts.is_empty() {
            hosts = (name, 0)
                .to_socket_addrs()
                .map(|found| found.map(|socket| socket.ip()).collect())
                .unwrap_or_default();
        }
        hosts
    }

    fn service(&self, name: &str) -> Vec<(u16, Transport)> {
        let mut found = vec![];
        for fields in self.table("services") {
            let mut names = std::iter::once(&fields[0]).chain(&fields[2..]);
            let transport = match fields[1].split_once('/') {
                Some((_, "tcp")) => Transport::Tcp,
                Some((_, "udp")) => Transport::Udp,
                Some((_, "sctp")) => Transport::Sctp,
                _ => continue,
            };
            let port = fields[1].split('/').next().and_then(|port| port.parse().ok());
            if let Some(port) = port
                && names.any(|known| known == name)
                && !found.iter().any(|(_, known)| *known == transport)
            {
                found.push((port, transport));
            }
        }
        found
    }

    fn protocol(&self, name: &str) -> Option<u8> {
        let table = self.table("protocols");
        let fields = table.iter().find(|fields| {
            let mut names = std::iter::once(&fields[0]).chain(&fields[2..]);
            names.any(|known| known == name)
        })?;
        fields[1].parse().ok()
    }

    fn network(&self, name: &str) -> Option<(u32, u32)> {
        let table = self.table("networks");
        let fields = table.iter().find(|fields| {
            let mut names = std::iter::once(&fields[0]).chain(&fields[2..]);
            names.any(|known| known == name)
        })?;
        let addr: Ipv4Addr = fields[1].parse().ok()?;
        let addr = u32::from(addr);
        // The mask is what the trailing zero bytes leave, as getnetbyname's users take it.
        let zeros = addr
            .to_be_bytes()
            .iter()
            .rev()
            .take_while(|byte| **byte == 0)
            .count() as u32;
        Some((addr, u32::MAX.checked_shl(8 * zeros).unwrap_or(0)))
    }

    fn ether(&self, name: &str) -> Option<[u8; 6]> {
        let table = self.table("ethers");
        let fields = table.iter().find(|fields| fields[1] == name)?;
        let mut mac = [0; 6];
        let mut parts = fields[0].split(':');
        for byte in &mut mac {
            *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
        }
        parts.next().is_none().then_some(mac)
    }

    fn netns(&self, name: &str) -> Result<u32, String> {
        places::netns(name)
    }

    fn cgroup(&self, path: &str) -> Result<u64, String> {
        places::cgroup(path)
    }

    fn interface(&self, name: &str) -> Option<u32> {
        places::interface(name).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_files() {
        let etc = std::env::temp_dir().join(format!("ktrail-names-{}", std::process::id()));
        std::fs::create_dir_all(&etc).unwrap();
        for (file, text) in [
            ("hosts", "10.1.2.3 a.example a # one\n2001:db8::7 a\n"),
            (
                "services",
                "domain 53/tcp\ndomain 53/udp # DNS\nhttp 80/tcp www\nodd 1/dccp\n",
            ),
            ("protocols", "ip 0 IP\ntcp 6 TCP # with comment\n"),
            ("networks", "office 10.20.0.0\n"),
            ("ethers", "02:00:00:00:00:0a a\nnonsense b\n"),
        ] {
            std::fs::write(etc.join(file), text).unwrap();
        }
        let system = System { etc: etc.clone() };
        let hosts = system.host("a");
        assert_eq!(
            hosts,
            [
                "10.1.2.3".parse::<IpAddr>().unwrap(),
                "2001:db8::7".parse().unwrap()
            ]
        );
        assert_eq!(
            system.service("domain"),
            [(53, Transport::Tcp), (53, Transport::Udp)]
        );
        assert_eq!(system.service("www"), [(80, Transport::Tcp)]);
        assert_eq!(system.service("odd"), []);
        assert_eq!(system.protocol("TCP"), Some(6));
        assert_eq!(system.protocol("nothing"), None);
        assert_eq!(system.network("office"), Some((0x0a14_0000, 0xffff_0000)));
        assert_eq!(system.ether("a"), Some([2, 0, 0, 0, 0, 0xa]));
        assert_eq!(system.ether("b"), None);
        std::fs::remove_dir_all(etc).unwrap();
    }
}
