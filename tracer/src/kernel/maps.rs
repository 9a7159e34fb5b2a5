//! Maps: created by declaration, shared by name, read and written as bytes.
//!
//! Deliberately absent: what a key or a value means. Keys have the sizes that [`MapDecl`] states; who declares a
//! map decodes it. Ring buffers are read in [`super::ring`].

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use ktrail_ebpf::ir::{MapDecl, MapKind};

use super::sys::{self, Command, MapBatch, MapCreate, MapElem, SysError, addr_of, addr_of_mut};

/// Why maps could not be created.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The kernel refused.
    #[error("map {name} ({what}): {error}{hint}")]
    Create {
        /// The map's name.
        name: String,
        /// Type and sizes.
        what: String,
        /// The kernel's answer.
        error: SysError,
        /// The way out, if there is one to name.
        hint: &'static str,
    },
    /// Two programs declare the same name with different shapes. A front end's bug.
    #[error("map {0} is declared twice, with different types or sizes")]
    Conflict(String),
}

/// A key and its value (of a per-CPU map: the values of all CPUs, one after the other), as bytes.
pub type Entry = (Vec<u8>, Vec<u8>);

/// A map that the kernel has made. Dropping it closes our descriptor; programs that use it keep it alive.
#[derive(Debug)]
pub struct Map {
    decl: MapDecl,
    fd: OwnedFd,
}

impl Map {
    /// Create a map.
    ///
    /// # Errors
    /// The kernel's: EPERM without CAP_BPF, or, before 5.11, when RLIMIT_MEMLOCK is too low for its size.
    pub fn create(decl: &MapDecl) -> Result<Map, MapError> {
        let mut attr = MapCreate {
            map_type: decl.kind as u32,
            key_size: decl.key_size,
            value_size: decl.value_size,
            max_entries: decl.max_entries,
            map_name: sys::object_name(&decl.name),
            ..MapCreate::default()
        };
        let fd = sys::bpf_fd(Command::MapCreate, &mut attr).map_err(|error| MapError::Create {
            name: decl.name.clone(),
            what: format!(
                "{:?}, key {} bytes, value {} bytes, {} entries",
                decl.kind, decl.key_size, decl.value_size, decl.max_entries
            ),
            error,
            hint: match error.errno {
                libc::EPERM => "; run as root or with CAP_BPF; before Linux 5.11 also raise `ulimit -l`",
                libc::E2BIG if decl.key_size > 512 => {
                    "; old kernels take keys of 512 bytes at most: shorten strings, as in str(x, 64)"
                }
                libc::ENOMEM | libc::E2BIG => "; ask for a smaller buffer or fewer entries",
                _ => "",
            },
        })?;
        Ok(Map {
            decl: decl.clone(),
            fd,
        })
    }

    /// As it was declared.
    pub fn decl(&self) -> &MapDecl {
        &self.decl
    }

    /// True if each CPU has a value of its own for each key.
    pub fn per_cpu(&self) -> bool {
        matches!(
            self.decl.kind,
            MapKind::PercpuArray | MapKind::PercpuHash | MapKind::LruPercpuHash
        )
    }

    /// The value of `key`, if there is one. Per-CPU maps: the values of all possible CPUs, in order, each padded
    /// to a multiple of 8 bytes (see [`Map::lookup_per_cpu`]).
    ///
    /// # Errors
    /// The kernel's.
    ///
    /// # Panics
    /// If the key has not the declared size.
    pub fn lookup(&self, key: &[u8]) -> Result<Option<Vec<u8>>, SysError> {
        let mut value = vec![0; self.value_bytes()];
        match self.elem(Command::MapLookupElem, key, addr_of_mut(&mut value), 0) {
            Ok(()) => Ok(Some(value)),
            Err(e) if e.errno == libc::ENOENT => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The values of `key` in a per-CPU map, one for each possible CPU.
    ///
    /// # Errors
    /// The kernel's.
    ///
    /// # Panics
    /// If the map is not per-CPU or the key has not the declared size.
    pub fn lookup_per_cpu(&self, key: &[u8]) -> Result<Option<Vec<Vec<u8>>>, SysError> {
        assert!(self.per_cpu(), "map {} is not per-CPU", self.decl.name);
        let size = self.decl.value_size as usize;
        Ok(self.lookup(key)?.map(|all| {
            all.chunks(size.next_multiple_of(8))
                .map(|v| v[..size].to_vec())
                .collect()
        }))
    }

    /// Element `index` of an array of 64-bit counters; of a per-CPU array the sum over all CPUs.
    ///
    /// # Errors
    /// The kernel's.
    ///
    /// # Panics
    /// If the map is not an array of 8-byte values.
    pub fn counter(&self, index: u32) -> Result<u64, SysError> {
        assert_eq!((self.decl.key_size, self.decl.value_size), (4, 8));
        let bytes = self.lookup(&index.to_ne_bytes())?.unwrap_or_default();
        Ok(bytes
            .chunks_exact(8)
            .map(|v| u64::from_ne_bytes(v.try_into().expect("eight bytes")))
            .fold(0, u64::wrapping_add))
    }

    /// Set the value of `key`, whether there is one or not. Per-CPU maps: every CPU gets `value`.
    ///
    /// # Errors
    /// The kernel's; E2BIG when the map is full.
    ///
    /// # Panics
    /// If key or value have not the declared sizes.
    pub fn update(&self, key: &[u8], value: &[u8]) -> Result<(), SysError> {
        assert_eq!(value.len(), self.decl.value_size as usize, "value size");
        if !self.per_cpu() {
            return self.elem(Command::MapUpdateElem, key, addr_of(value), 0);
        }
        let slot = value.len().next_multiple_of(8);
        let mut all = vec![0; self.value_bytes()];
        for chunk in all.chunks_mut(slot) {
            chunk[..value.len()].copy_from_slice(value);
        }
        self.elem(Command::MapUpdateElem, key, addr_of(&all), 0)
    }

    /// Delete `key`; false if it was not there.
    ///
    /// # Errors
    /// The kernel's.
    ///
    /// # Panics
    /// If the key has not the declared size.
    pub fn delete(&self, key: &[u8]) -> Result<bool, SysError> {
        match self.elem(Command::MapDeleteElem, key, 0, 0) {
            Ok(()) => Ok(true),
            Err(e) if e.errno == libc::ENOENT => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// All keys, in the kernel's order. While programs add and delete, keys may be missed or come twice; it ends
    /// all the same.
    ///
    /// # Errors
    /// The kernel's.
    pub fn keys(&self) -> Result<Vec<Vec<u8>>, SysError> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        // A concurrent delete makes the kernel start over: the bound keeps that from going on for ever.
        for _ in 0..=u64::from(self.decl.max_entries) * 2 {
            let mut next = vec![0; self.decl.key_size as usize];
            let mut attr = MapElem {
                map_fd: self.fd.as_raw_fd() as u32,
                key: keys.last().map_or(0, |k| addr_of(k)),
                value_or_next_key: addr_of_mut(&mut next),
                ..MapElem::default()
            };
            match sys::bpf(Command::MapGetNextKey, &mut attr) {
                Ok(_) => keys.push(next),
                Err(e) if e.errno == libc::ENOENT => break,
                Err(e) => return Err(e),
            }
        }
        Ok(keys)
    }

    /// All entries: keys, and values as [`Map::lookup`] has them. In batches where the kernel can (5.6+).
    ///
    /// While programs add and delete, entries may be missed or come twice; it ends all the same.
    ///
    /// # Errors
    /// The kernel's.
    pub fn entries(&self) -> Result<Vec<Entry>, SysError> {
        match self.batches() {
            // No batches for this type of map, or on this kernel.
            Err(e) if matches!(e.errno, libc::EINVAL | libc::ENOTSUP) => self.one_by_one(),
            other => other,
        }
    }

    fn one_by_one(&self) -> Result<Vec<Entry>, SysError> {
        let mut entries = Vec::new();
        for key in self.keys()? {
            if let Some(value) = self.lookup(&key)? {
                entries.push((key, value));
            }
        }
        Ok(entries)
    }

    fn batches(&self) -> Result<Vec<Entry>, SysError> {
        let (key_bytes, value_bytes) = (self.decl.key_size as usize, self.value_bytes());
        let mut room = (self.decl.max_entries as usize).clamp(1, 512);
        let mut entries = Vec::new();
        let mut at: Option<[u64; 1]> = None;
        // As for keys: an end, whatever programs do to the map meanwhile.
        while entries.len() <= self.decl.max_entries as usize * 2 {
            let mut keys = vec![0_u8; key_bytes * room];
            let mut values = vec![0_u8; value_bytes * room];
            let mut next = [0_u64; 1];
            let mut attr = MapBatch {
                in_batch: at.as_ref().map_or(0, |at| addr_of(at)),
                out_batch: addr_of_mut(&mut next),
                keys: addr_of_mut(&mut keys),
                values: addr_of_mut(&mut values),
                count: room as u32,
                map_fd: self.fd.as_raw_fd() as u32,
                ..MapBatch::default()
            };
            let done = match sys::bpf(Command::MapLookupBatch, &mut attr) {
                Ok(_) => false,
                Err(e) if e.errno == libc::ENOENT => true,
                // One of the hash table's buckets has more entries than there is room for.
                Err(e) if e.errno == libc::ENOSPC && room < self.decl.max_entries as usize => {
                    room *= 2;
                    continue;
                }
                Err(e) => return Err(e),
            };
            let keys = keys.chunks_exact(key_bytes.max(1));
            let values = values.chunks_exact(value_bytes.max(1));
            let pairs = keys.zip(values).take(attr.count as usize);
            entries.extend(pairs.map(|(k, v)| (k.to_vec(), v.to_vec())));
            if done {
                break;
            }
            at = Some(next);
        }
        Ok(entries)
    }

    fn elem(&self, command: Command, key: &[u8], value: u64, flags: u64) -> Result<(), SysError> {
        assert_eq!(key.len(), self.decl.key_size as usize, "key size");
        let mut attr = MapElem {
            map_fd: self.fd.as_raw_fd() as u32,
            key: addr_of(key),
            value_or_next_key: value,
            flags,
            ..MapElem::default()
        };
        sys::bpf(command, &mut attr).map(drop)
    }

    /// Bytes that the kernel moves for one value.
    fn value_bytes(&self) -> usize {
        let size = self.decl.value_size as usize;
        match self.per_cpu() {
            true => size.next_multiple_of(8) * possible_cpus(),
            false => size,
        }
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The maps of the programs that are loaded together: one of each name.
#[derive(Debug, Default)]
pub struct Maps(BTreeMap<String, Map>);

impl Maps {
    /// Create the maps that `decls` names.
    ///
    /// # Errors
    /// See [`MapError`].
    pub fn create(decls: &[MapDecl]) -> Result<Maps, MapError> {
        let mut maps = Maps::default();
        maps.add(decls)?;
        Ok(maps)
    }

    /// Create those of `decls` that are not there yet.
    ///
    /// # Errors
    /// See [`MapError`].
    pub fn add(&mut self, decls: &[MapDecl]) -> Result<(), MapError> {
        for decl in decls {
            match self.0.get(&decl.name) {
                None => {
                    self.0.insert(decl.name.clone(), Map::create(decl)?);
                }
                Some(map) if map.decl == *decl => {}
                Some(_) => return Err(MapError::Conflict(decl.name.clone())),
            }
        }
        Ok(())
    }

    /// The map of that name.
    pub fn get(&self, name: &str) -> Option<&Map> {
        self.0.get(name)
    }

    /// All maps, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Map> {
        self.0.values()
    }
}

/// How many CPUs the kernel could ever have: per-CPU maps have a value for each.
///
/// Source: /sys/devices/system/cpu/possible; if that can't be read, the CPUs that are configured.
pub fn possible_cpus() -> usize {
    std::fs::read_to_string("/sys/devices/system/cpu/possible")
        .ok()
        .and_then(|text| last_cpu(&text))
        .map_or_else(
            // SAFETY: sysconf has no preconditions.
            || unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) }.max(1) as usize,
            |last| last + 1,
        )
}

/// The CPUs that are on line; at least one.
pub fn online_cpus() -> Vec<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let cpus = cpu_list(&text);
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// The CPUs of a list such as `0-3,8`.
fn cpu_list(list: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    list.trim().split(',').filter_map(range).flatten().collect()
}

/// The highest number of a CPU list such as `0-3,8`.
fn last_cpu(list: &str) -> Option<usize> {
    list.trim().rsplit([',', '-']).next()?.parse().ok()
}

/// Raise RLIMIT_MEMLOCK as far as allowed, which maps and programs are charged to before 5.11, and RLIMIT_NOFILE,
/// since every kprobe is a descriptor. Returns what could not be raised, for a notice; it is never fatal here.
pub fn raise_limits() -> Vec<String> {
    let mut notes = Vec::new();
    for (resource, name, want) in [
        (libc::RLIMIT_MEMLOCK, "RLIMIT_MEMLOCK", libc::RLIM_INFINITY),
        (libc::RLIMIT_NOFILE, "RLIMIT_NOFILE", 65_536),
    ] {
        let mut now = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: `now` is a valid struct rlimit.
        if unsafe { libc::getrlimit(resource, &raw mut now) } != 0 || now.rlim_cur >= want {
            continue;
        }
        let raised = libc::rlimit {
            rlim_cur: want,
            rlim_max: want.max(now.rlim_max),
        };
        // SAFETY: `raised` is a valid struct rlimit.
        if unsafe { libc::setrlimit(resource, &raw const raised) } == 0 {
            continue;
        }
        let to_hard = libc::rlimit {
            rlim_cur: now.rlim_max,
            rlim_max: now.rlim_max,
        };
        // SAFETY: `to_hard` is a valid struct rlimit.
        if unsafe { libc::setrlimit(resource, &raw const to_hard) } != 0 {
            notes.push(format!("{name} stays at {}", now.rlim_cur));
        } else {
            notes.push(format!("{name} stays at its hard limit, {}", now.rlim_max));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists() {
        assert_eq!(last_cpu("0-3,8\n"), Some(8));
        assert_eq!(last_cpu("0"), Some(0));
        assert_eq!(last_cpu("0-127\n"), Some(127));
        assert_eq!(last_cpu(""), None);
        assert_eq!(cpu_list("0-2,8\n"), [0, 1, 2, 8]);
        assert!(cpu_list("").is_empty());
    }
}
