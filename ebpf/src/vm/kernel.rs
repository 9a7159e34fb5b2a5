//! The kernel as programs see it: helpers and maps.

use std::collections::BTreeMap;

use super::memory::{Memory, Rights};
use crate::ir::{MapDecl, MapKind};
use crate::isa::Helper;
use crate::kernel::RdonlyCast;

/// Handles of maps start here: no object is there.
const HANDLES: u64 = 0x7000_0000_0000;

const ENOENT: i64 = 2;
const E2BIG: i64 = 7;
const EFAULT: i64 = 14;
const EEXIST: i64 = 17;
const EINVAL: i64 = 22;

struct Map {
    decl: MapDecl,
    /// Address of each value, by key.
    values: BTreeMap<Vec<u8>, u64>,
    /// Address of an array's first value.
    first: u64,
}

/// Helpers, maps and memory. Deterministic: time passes by one nanosecond a question.
#[derive(Default)]
pub struct Kernel {
    /// All memory.
    pub memory: Memory,
    /// What `bpf_ktime_get_ns` says next.
    pub time: u64,
    /// What `bpf_get_current_pid_tgid` says.
    pub pid_tgid: u64,
    /// The packet that `bpf_skb_load_bytes` reads.
    pub skb: Vec<u8>,
    /// What `bpf_get_func_arg` reads.
    pub args: Vec<u64>,
    /// Memory can be cast to be readable, by this function.
    pub rdonly_cast: Option<RdonlyCast>,
    /// How many helpers were called.
    pub calls: u64,
    /// Records submitted, in order: ring buffer's number and bytes.
    pub records: Vec<(u32, Vec<u8>)>,
    maps: Vec<Map>,
    reserved: BTreeMap<u64, (u32, usize)>,
}

/// A helper's result: a value, or what the verifier would have refused.
type Answer = Result<u64, String>;

fn error(errno: i64) -> Answer {
    Ok(errno.wrapping_neg() as u64)
}

impl Kernel {
    /// A kernel with these maps, empty or all zero.
    pub fn new(maps: &[MapDecl]) -> Kernel {
        let mut kernel = Kernel::default();
        for decl in maps {
            kernel.add_map(decl);
        }
        kernel
    }

    /// Add a map, empty or all zero. It has the next number.
    pub fn add_map(&mut self, decl: &MapDecl) {
        let mut map = Map {
            decl: decl.clone(),
            values: BTreeMap::new(),
            first: 0,
        };
        if matches!(decl.kind, MapKind::Array | MapKind::PercpuArray) {
            let (size, entries) = (decl.value_size as usize, decl.max_entries);
            map.first = self
                .memory
                .add(vec![0; size * entries as usize], Rights::ReadWrite);
            for i in 0..entries {
                let at = map.first + u64::from(i) * size as u64;
                map.values.insert(i.to_le_bytes().to_vec(), at);
            }
        }
        self.maps.push(map);
    }

    /// The handle by which programs name a map.
    pub fn handle(&self, map: u32) -> u64 {
        HANDLES + u64::from(map)
    }

    /// The address of an array map's first value.
    pub fn data(&self, map: u32) -> u64 {
        self.maps[map as usize].first
    }

    /// A value of a map.
    pub fn value(&self, map: u32, key: &[u8]) -> Option<&[u8]> {
        let map = &self.maps[map as usize];
        let at = *map.values.get(key)?;
        self.memory.probe(at, map.decl.value_size as usize)
    }

    /// All of a map, by key.
    pub fn entries(&self, map: u32) -> Vec<(Vec<u8>, Vec<u8>)> {
        let keys = self.maps[map as usize].values.keys();
        keys.filter_map(|key| Some((key.clone(), self.value(map, key)?.to_vec())))
            .collect()
    }

    /// True if a reserved record was neither submitted nor discarded.
    pub fn leaks_records(&self) -> bool {
        !self.reserved.is_empty()
    }

    /// Call a helper. `ctx` is the address of the program's context.
    ///
    /// # Errors
    /// What the kernel's verifier would have refused.
    pub fn call(&mut self, helper: Helper, args: [u64; 5]) -> Answer {
        let [a, b, c, d, _] = args;
        self.calls += 1;
        match helper {
            Helper::MapLookupElem => self.lookup(a, b),
            // There is one CPU.
            Helper::MapLookupPercpuElem if c == 0 => self.lookup(a, b),
            Helper::MapLookupPercpuElem => Ok(0),
            Helper::MapUpdateElem => self.update(a, b, c, d),
            Helper::MapDeleteElem => self.delete(a, b),
            Helper::KtimeGetNs | Helper::KtimeGetBootNs | Helper::KtimeGetTaiNs | Helper::Jiffies64 => {
                self.time += 1;
                Ok(self.time)
            }
            Helper::GetPrandomU32 => {
                self.time += 1;
                Ok(self.time.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32)
            }
            Helper::GetSmpProcessorId
            | Helper::GetNumaNodeId
            | Helper::GetCurrentUidGid
            | Helper::GetCurrentCgroupId => Ok(0),
            Helper::GetCurrentPidTgid => Ok(self.pid_tgid),
            Helper::GetCurrentComm => {
                let mut name = b"vm".to_vec();
                name.resize(b as usize, 0);
                self.memory.write(a, &name)?;
                Ok(0)
            }
            Helper::SkbLoadBytes => {
                let (off, len) = (b as u32 as usize, d as usize);
                let bytes = off.checked_add(len).and_then(|end| self.skb.get(off..end));
                let found = bytes.map(<[u8]>::to_vec);
                self.fill(c, len, found)
            }
            Helper::ProbeReadKernel => {
                let found = self.memory.probe(c, b as usize).map(<[u8]>::to_vec);
                self.fill(a, b as usize, found)
            }
            Helper::ProbeReadUser => self.fill(a, b as usize, None),
            Helper::ProbeReadKernelStr => self.read_string(a, b as usize, c),
            Helper::ProbeReadUserStr => self.fill(a, b as usize, None),
            Helper::RingbufOutput => {
                let map = self.map(a)?;
                let bytes = self.memory.read(b, c as usize)?.to_vec();
                self.records.push((map, bytes));
                Ok(0)
            }
            Helper::RingbufReserve => {
                let map = self.map(a)?;
                let at = self.memory.add(vec![0x5a; b as usize], Rights::ReadWrite);
                self.reserved.insert(at, (map, b as usize));
                Ok(at)
            }
            Helper::RingbufSubmit => {
                let (map, bytes) = self.take_record(a)?;
                self.records.push((map, bytes));
                Ok(0)
            }
            Helper::RingbufDiscard => self.take_record(a).map(|_| 0),
            Helper::RingbufQuery => Ok(0),
            Helper::GetFuncArg => match self.args.get(b as usize).copied() {
                Some(value) => {
                    self.memory.write_number(c, 8, value)?;
                    Ok(0)
                }
                None => error(EINVAL),
            },
            Helper::GetStackid
            | Helper::OverrideReturn
            | Helper::ForEachMapElem
            | Helper::GetStack
            | Helper::GetCurrentTask
            | Helper::GetFuncIp
            | Helper::GetAttachCookie
            | Helper::GetFuncRet
            | Helper::DPath
            | Helper::GetSocketCookie
            | Helper::ProbeWriteUser
            | Helper::GetNsCurrentPidTgid
            | Helper::SendSignal
            | Helper::SendSignalThread => Err(format!("{} is not simulated", helper.name())),
        }
    }

    fn map(&self, handle: u64) -> Result<u32, String> {
        let index = handle.wrapping_sub(HANDLES);
        if index < self.maps.len() as u64 {
            Ok(index as u32)
        } else {
            Err(format!("{handle:#x} is not a map"))
        }
    }

    /// The bytes that were found, or zeros and an error.
    fn fill(&mut self, to: u64, len: usize, found: Option<Vec<u8>>) -> Answer {
        let answer = if found.is_some() { Ok(0) } else { error(EFAULT) };
        self.memory.write(to, &found.unwrap_or_else(|| vec![0; len]))?;
        answer
    }

    fn read_string(&mut self, to: u64, len: usize, from: u64) -> Answer {
        let mut bytes = vec![];
        while bytes.len() < len {
            let Some(byte) = self.memory.probe(from + bytes.len() as u64, 1) else {
                return self.fill(to, len, None);
            };
            bytes.push(byte[0]);
            if byte[0] == 0 {
                break;
            }
        }
        if let Some(last) = bytes.last_mut() {
            *last = 0;
        }
        // The rest of the buffer counts as written for the verifier.
        let count = bytes.len() as u64;
        bytes.resize(len, 0);
        self.memory.write(to, &bytes)?;
        Ok(count)
    }

    fn take_record(&mut self, at: u64) -> Result<(u32, Vec<u8>), String> {
        let (map, len) = self.reserved.remove(&at).ok_or("this is not a reserved record")?;
        let bytes = self.memory.read(at, len)?.to_vec();
        self.memory.remove(at);
        Ok((map, bytes))
    }

    fn key(&self, handle: u64, key: u64) -> Result<(usize, Vec<u8>), String> {
        let map = self.map(handle)? as usize;
        let size = self.maps[map].decl.key_size as usize;
        Ok((map, self.memory.read(key, size)?.to_vec()))
    }

    fn lookup(&mut self, handle: u64, key: u64) -> Answer {
        let (map, key) = self.key(handle, key)?;
        Ok(self.maps[map].values.get(&key).copied().unwrap_or(0))
    }

    fn update(&mut self, handle: u64, key: u64, value: u64, flags: u64) -> Answer {
        let (index, key) = self.key(handle, key)?;
        let decl = self.maps[index].decl.clone();
        let value = self.memory.read(value, decl.value_size as usize)?.to_vec();
        let present = self.maps[index].values.get(&key).copied();
        match (present, flags) {
            (Some(_), 1) => error(EEXIST),
            (None, 2) => error(ENOENT),
            (_, 3..) => error(EINVAL),
            (Some(at), _) => {
                self.memory.write(at, &value)?;
                Ok(0)
            }
            (None, _) if matches!(decl.kind, MapKind::Array | MapKind::PercpuArray) => error(E2BIG),
            (None, _) if self.maps[index].values.len() >= decl.max_entries as usize => error(E2BIG),
            (None, _) => {
                let at = self.memory.add(value, Rights::ReadWrite);
                self.maps[index].values.insert(key, at);
                Ok(0)
            }
        }
    }

    fn delete(&mut self, handle: u64, key: u64) -> Answer {
        let (index, key) = self.key(handle, key)?;
        let map = &mut self.maps[index];
        if matches!(map.decl.kind, MapKind::Array | MapKind::PercpuArray) {
            return error(EINVAL);
        }
        match map.values.remove(&key) {
            // The value stays readable, as it does in the kernel until the program ends.
            Some(_) => Ok(0),
            None => error(ENOENT),
        }
    }
}
