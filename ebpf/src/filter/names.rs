//! Names in filters: what they stand for, the caller knows.

use std::net::IpAddr;

/// A transport protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // the protocols' own names
pub enum Transport {
    Tcp = 6,
    Udp = 17,
    Sctp = 132,
}

/// The system's names. Each method's default knows none.
pub trait Names {
    /// The addresses of a host.
    fn host(&self, name: &str) -> Vec<IpAddr> {
        let _ = name;
        vec![]
    }

    /// The ports of a service (`/etc/services`).
    fn service(&self, name: &str) -> Vec<(u16, Transport)> {
        let _ = name;
        vec![]
    }

    /// The number of an IP protocol (`/etc/protocols`). Those that the filter language itself names are known
    /// without it.
    fn protocol(&self, name: &str) -> Option<u8> {
        let _ = name;
        None
    }

    /// A network's address and mask (`/etc/networks`), in host byte order.
    fn network(&self, name: &str) -> Option<(u32, u32)> {
        let _ = name;
        None
    }

    /// A host's link-layer address (`/etc/ethers`).
    fn ether(&self, name: &str) -> Option<[u8; 6]> {
        let _ = name;
        None
    }

    /// The inode of a network namespace, by name or by path.
    ///
    /// # Errors
    /// Why there is none.
    fn netns(&self, name: &str) -> Result<u32, String> {
        Err(format!("no network namespace is called {name:?}"))
    }

    /// The id of a cgroup (version 2) by its path below the root of the hierarchy.
    ///
    /// # Errors
    /// Why there is none.
    fn cgroup(&self, path: &str) -> Result<u64, String> {
        Err(format!("there is no cgroup {path:?}"))
    }

    /// The index of a network interface.
    fn interface(&self, name: &str) -> Option<u32> {
        let _ = name;
        None
    }
}

/// Knows no names.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNames;

impl Names for NoNames {}
