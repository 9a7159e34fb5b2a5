//! BTF in memory, and how to have less of it there.
//!
//! The kernel's is 5 MB, which are looked at once from the beginning to the end and then here and there. Since Linux 6.16
//! it can be mapped where the kernel has it. Before, it is copied to a file in memory: what maps that has no further copy,
//! and pages that nobody looks at are no part of this process.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use btf_rs::{Backend, Btf};

/// The file's name in /proc/self/maps.
const NAME: &str = "/memfd:ktrail-btf";

/// One object's BTF.
pub(super) enum Bytes {
    Heap(Vec<u8>),
    File(Mapped),
}

impl Bytes {
    /// Read a file of sysfs.
    ///
    /// # Errors
    /// If it can't be read.
    pub(super) fn read(path: &Path) -> io::Result<Bytes> {
        match Mapped::of_sysfs(path).or_else(|_| Mapped::copy(path)) {
            Ok(mapped) => Ok(Bytes::File(mapped)),
            // No memfd_create, as some sandboxes have it.
            Err(_) => std::fs::read(path).map(Bytes::Heap),
        }
    }

    /// For single types. btf-rs is four times as fast on mapped memory.
    pub(super) fn parse(&self) -> Result<Btf, btf_rs::Error> {
        match self {
            Bytes::Heap(bytes) => Btf::from_bytes(bytes),
            Bytes::File(mapped) => {
                let path = format!("/proc/self/fd/{}", mapped.file.as_raw_fd());
                Btf::from_file_with_backend(path, Backend::Mmap)
            }
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Heap(bytes) => bytes,
            Bytes::File(mapped) => mapped.bytes,
        }
    }
}

/// A file in memory, mapped.
pub(super) struct Mapped {
    file: File,
    /// Lives as long as `self`.
    bytes: &'static [u8],
}

impl Mapped {
    /// The kernel's own memory.
    fn of_sysfs(path: &Path) -> io::Result<Mapped> {
        const SYSFS_MAGIC: libc::c_long = 0x6265_6572;
        let file = File::open(path)?;
        // SAFETY: all zero is a value of it, and the kernel fills it in.
        let mut about: libc::statfs = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        if unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut about) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // Any other file may change.
        if about.f_type as libc::c_long != SYSFS_MAGIC {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let len = file.metadata()?.len();
        Mapped::new(file, len as usize)
    }

    fn copy(path: &Path) -> io::Result<Mapped> {
        // SAFETY: the name is a C string.
        let fd = unsafe { libc::memfd_create(c"ktrail-btf".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us.
        let mut file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        let len = io::copy(&mut File::open(path)?, &mut file)?;
        Mapped::new(file, len as usize)
    }

    /// Map a file that never changes.
    fn new(file: File, len: usize) -> io::Result<Mapped> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let at = unsafe {
            let (kind, fd) = (libc::MAP_PRIVATE, file.as_raw_fd());
            libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, kind, fd, 0)
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `len` bytes are mapped there until `self` is dropped, and the file never changes.
        let bytes = unsafe { std::slice::from_raw_parts(at.cast::<u8>(), len) };
        Ok(Mapped { file, bytes })
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and references to `bytes` were given with the lifetime of `self`.
        unsafe { libc::munmap(self.bytes.as_ptr().cast_mut().cast(), self.bytes.len()) };
    }
}

/// Take all pages of the kernel's BTF out of this process, btf-rs' as well. Those that are looked at come back.
pub fn give_back() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let ranges = maps
        .lines()
        .filter(|line| line.contains(NAME))
        .filter_map(|line| {
            let (start, end) = line.split_once(' ')?.0.split_once('-')?;
            let number = |text| usize::from_str_radix(text, 16).ok();
            Some((number(start)?, number(end)?))
        });
    for (start, end) in ranges {
        // SAFETY: nothing writes to the file or to a mapping of it, so that pages come back from the file as they were.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_or_copied_it_is_what_the_kernel_shows() {
        let path = Path::new("/sys/kernel/btf/vmlinux");
        let Ok(shown) = std::fs::read(path) else {
            return println!("ktrail-test-skip: btf::bytes: this kernel has no BTF");
        };
        assert!(*Bytes::read(path).unwrap() == *shown);
        assert!(*Mapped::copy(path).unwrap().bytes == *shown);
        // A file that is no sysfs's may change.
        assert!(Mapped::of_sysfs(Path::new("/proc/self/exe")).is_err());
    }
}
