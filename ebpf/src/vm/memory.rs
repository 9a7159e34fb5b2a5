//! Address space: objects at addresses, each with its bounds and rights.

use std::collections::BTreeMap;

/// What plain loads and stores may do with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Plain loads and stores.
    ReadWrite,
    /// Plain loads only.
    Read,
    /// Kernel memory, which helpers read: plain loads only where it was cast.
    Kernel,
}

struct Object {
    bytes: Vec<u8>,
    /// Which bytes were written; `None`: all count as written.
    written: Option<Vec<bool>>,
    rights: Rights,
}

/// Objects at addresses. No two touch, and address 0 belongs to none.
pub struct Memory {
    objects: BTreeMap<u64, Object>,
    next: u64,
    /// Start and length of kernel memory that plain loads may read.
    casts: Vec<(u64, usize)>,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory {
            objects: BTreeMap::new(),
            // Above 32 bits, as a kernel's addresses: who truncates one is found out.
            next: 0xffff_8000_0000_0000,
            casts: vec![],
        }
    }
}

impl Memory {
    /// Put an object somewhere; its address is a multiple of 16.
    pub fn add(&mut self, bytes: Vec<u8>, rights: Rights) -> u64 {
        self.insert(bytes, None, rights)
    }

    /// An object of `size` bytes that must be written before they are read.
    pub fn add_uninitialised(&mut self, size: usize) -> u64 {
        self.insert(vec![0xa5; size], Some(vec![false; size]), Rights::ReadWrite)
    }

    /// Put an object at an address of one's own choice. It must not touch another.
    pub fn add_at(&mut self, at: u64, bytes: Vec<u8>, rights: Rights) {
        let object = Object {
            bytes,
            written: None,
            rights,
        };
        self.objects.insert(at, object);
    }

    fn insert(&mut self, bytes: Vec<u8>, written: Option<Vec<bool>>, rights: Rights) -> u64 {
        let at = self.next;
        self.next += (bytes.len() as u64).next_multiple_of(16) + 4096;
        self.objects.insert(
            at,
            Object {
                bytes,
                written,
                rights,
            },
        );
        at
    }

    /// Let plain loads read `len` bytes from `at` on, whatever is there.
    pub fn cast(&mut self, at: u64, len: usize) {
        self.casts.push((at, len));
    }

    fn is_cast(&self, at: u64, len: usize) -> bool {
        let mut casts = self.casts.iter();
        casts.any(|&(start, size)| {
            at.checked_sub(start)
                .is_some_and(|off| off as usize + len <= size)
        })
    }

    /// Remove the object at this address.
    pub fn remove(&mut self, at: u64) {
        self.objects.remove(&at);
    }

    fn find(&self, at: u64, len: usize) -> Result<(u64, usize), String> {
        let (&base, object) = self
            .objects
            .range(..=at)
            .next_back()
            .ok_or_else(|| format!("no object at {at:#x}"))?;
        let off = (at - base) as usize;
        if off.checked_add(len).is_none_or(|end| end > object.bytes.len()) {
            return Err(format!(
                "{len} bytes at offset {off} of an object of {}",
                object.bytes.len()
            ));
        }
        Ok((base, off))
    }

    /// The bytes at an address, as a plain load or a helper's argument sees them.
    ///
    /// # Errors
    /// What is wrong with the access.
    pub fn read(&self, at: u64, len: usize) -> Result<&[u8], String> {
        let (base, off) = self.find(at, len)?;
        let object = &self.objects[&base];
        if object.rights == Rights::Kernel && !self.is_cast(at, len) {
            return Err("plain load from kernel memory".into());
        }
        if let Some(written) = &object.written
            && !written[off..off + len].iter().all(|w| *w)
        {
            return Err(format!("read of uninitialised memory at offset {off}"));
        }
        Ok(&object.bytes[off..off + len])
    }

    /// The bytes at an address, whatever they are: what `bpf_probe_read_kernel` sees. `None` is a fault.
    pub fn probe(&self, at: u64, len: usize) -> Option<&[u8]> {
        let (base, off) = self.find(at, len).ok()?;
        Some(&self.objects[&base].bytes[off..off + len])
    }

    /// Write bytes, as a plain store or a helper does.
    ///
    /// # Errors
    /// What is wrong with the access.
    pub fn write(&mut self, at: u64, data: &[u8]) -> Result<(), String> {
        let (base, off) = self.find(at, data.len())?;
        if let Some(object) = self.objects.get_mut(&base) {
            if object.rights != Rights::ReadWrite {
                return Err("store to memory that can't be written".into());
            }
            object.bytes[off..off + data.len()].copy_from_slice(data);
            if let Some(written) = &mut object.written {
                written[off..off + data.len()].fill(true);
            }
        }
        Ok(())
    }

    /// A little-endian number of 1 to 8 bytes.
    ///
    /// # Errors
    /// As [`Memory::read`].
    pub fn read_number(&self, at: u64, len: usize) -> Result<u64, String> {
        // What was cast need not be there: the kernel gives 0 for a load that faults.
        if self.is_cast(at, len) && self.find(at, len).is_err() {
            return Ok(0);
        }
        Ok(number(self.read(at, len)?))
    }

    /// The low `len` bytes of a number, little-endian.
    ///
    /// # Errors
    /// As [`Memory::write`].
    pub fn write_number(&mut self, at: u64, len: usize, value: u64) -> Result<(), String> {
        self.write(at, &value.to_le_bytes()[..len])
    }
}

/// A little-endian number.
pub(super) fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_is_checked() {
        let mut memory = Memory::default();
        let a = memory.add(vec![1, 2, 3, 4], Rights::ReadWrite);
        let b = memory.add(vec![5; 8], Rights::Read);
        let c = memory.add(vec![6; 8], Rights::Kernel);
        let d = memory.add_uninitialised(8);
        assert_eq!(memory.read_number(a, 4), Ok(0x0403_0201));
        assert!(memory.read(a + 1, 4).is_err());
        assert!(memory.read(0, 1).is_err());
        assert!(memory.read(c, 1).is_err());
        memory.cast(c + 4, 2);
        memory.cast(16, 8);
        assert_eq!(memory.read_number(c + 4, 2), Ok(0x0606));
        assert!(memory.read(c + 4, 4).is_err());
        assert_eq!(memory.read_number(16, 8), Ok(0));
        assert_eq!(memory.probe(c, 8), Some([6; 8].as_slice()));
        assert_eq!(memory.probe(0, 8), None);
        assert!(memory.write(b, &[1]).is_err());
        assert!(memory.read(d, 8).is_err());
        memory.write_number(d, 4, 7).unwrap();
        assert_eq!(memory.read_number(d, 4), Ok(7));
        assert!(memory.read(d + 1, 4).is_err());
        memory.remove(a);
        assert!(memory.read(a, 1).is_err());
    }
}
