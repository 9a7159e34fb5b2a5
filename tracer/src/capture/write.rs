//! Writing pcap files, of IP packets without a link layer.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Of classic pcap with nanoseconds. (draft-ietf-opsawg-pcap)
const MAGIC: u32 = super::file::PCAP_NANOSECONDS;
/// `LINKTYPE_RAW`: packets begin with an IP header.
const RAW: u32 = 101;
/// The most bytes of a packet that readers take.
const SNAPLEN: u32 = 262_144;

/// A capture file that grows. Each packet is written as it comes, so the file is whole at any time.
pub struct Writer(File);

impl Writer {
    /// An empty one in the place of what is there.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn create(path: &Path) -> io::Result<Writer> {
        let mut file = File::create(path)?;
        // Version 2.4; time zone and accuracy, which nobody writes.
        let words = [MAGIC, 4 << 16 | 2, 0, 0, SNAPLEN, RAW];
        file.write_all(&words.map(u32::to_le_bytes).concat())?;
        Ok(Writer(file))
    }

    /// Add a packet of `wire` bytes of which `data` are the first, captured so many nanoseconds after the Unix epoch.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn packet(&mut self, time: u64, data: &[u8], wire: u32) -> io::Result<()> {
        let (seconds, ns) = (time / 1_000_000_000, time % 1_000_000_000);
        let words = [seconds as u32, ns as u32, data.len() as u32, wire];
        let mut record = words.map(u32::to_le_bytes).concat();
        record.extend_from_slice(data);
        self.0.write_all(&record)
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::Reader;
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let path = std::env::temp_dir().join(format!("ktrail-writer-{}.pcap", std::process::id()));
        let mut writer = Writer::create(&path).unwrap();
        writer
            .packet(1_700_000_000_000_000_005, &[0x45, 1, 2], 60)
            .unwrap();
        writer.packet(0, &[], 0).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let mut reader = Reader::new(&bytes[..]).unwrap();
        let mut packets = vec![];
        while let Some(item) = reader.item().unwrap() {
            let data = item.data().to_vec();
            packets.extend(item.packet.map(|p| (p.link, p.wire, data)));
        }
        assert_eq!(packets, [(101, 60, vec![0x45, 1, 2]), (101, 0, vec![])]);
        assert_eq!(
            bytes[24..32],
            [1_700_000_000_u32.to_le_bytes(), 5_u32.to_le_bytes()].concat()
        );
    }
}
