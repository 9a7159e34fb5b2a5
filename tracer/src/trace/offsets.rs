//! Where this kernel keeps what the tracer reads, by BTF.

use ktrail_ebpf::ir::{BinOp, Builder, Reg, Size, Width};
use ktrail_ebpf::kernel::{Types, field};

/// Offsets in bytes within the struct that each name starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // each is a field of the kernel's struct of that name
pub struct Offsets {
    pub skb_len: u32,
    pub skb_mark: u32,
    pub skb_protocol: u32,
    pub skb_network_header: u32,
    pub skb_mac_header: u32,
    pub skb_tail: u32,
    pub skb_head: u32,
    pub skb_data: u32,
    pub skb_dev: u32,
    pub skb_sk: u32,
    pub skb_dst: u32,
    pub skb_iif: u32,
    pub skb_pkt_type: Bits,
    pub skb_vlan: VlanTag,
    pub skb_vlan_tci: u32,
    /// None without connection tracking.
    pub skb_nfct: Option<u32>,
    pub dev_ifindex: u32,
    pub dev_type: u32,
    pub dev_name: u32,
    pub dev_net: u32,
    pub sock_net: u32,
    pub net_inum: u32,
    /// None without Netfilter.
    pub netfilter: Option<NetfilterOffsets>,
}

/// Where the kernel keeps what a Netfilter hook is, and what is registered there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NetfilterOffsets {
    pub state_hook: u32,
    pub state_pf: u32,
    /// None where nf_tables is not loaded.
    pub nft: Option<NftOffsets>,
    /// The name within `struct xt_table`; none where x_tables is not loaded.
    pub xt_table_name: Option<u32>,
}

/// nftables' chains and tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NftOffsets {
    pub chain_table: u32,
    pub chain_name: u32,
    pub table_name: u32,
    pub table_family: Bits,
    pub verdict: VerdictOffsets,
    /// None before Linux 6.4, where nothing leads from a rule back to its chain.
    pub rules: Option<RuleOffsets>,
}

/// The verdict in an nftables expression of kind `immediate`, as offsets from the start of the expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerdictOffsets {
    /// `dreg`: 0 is the register that holds the verdict.
    pub register: u32,
    /// The verdict's code.
    pub code: u32,
}

/// How nftables keeps a chain's rules: headers, each with its expressions behind it, in one block of memory that ends
/// with a header of its own kind (`struct nft_rule_dp_last`), which points to the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleOffsets {
    /// `nft_expr_ops.size`: of an expression, all of it.
    pub expr_size: u32,
    /// `nft_rule_dp_last.chain`.
    pub last_chain: u32,
    /// The chain's blocks, of which one is in use.
    pub chain_blobs: [u32; 2],
    /// `nft_rule_blob.size`, and where its first header is.
    pub blob_size: u32,
    /// See above.
    pub blob_data: u32,
    /// Size of a header, in whose first 8 bytes the next three are bit fields.
    pub header: u32,
    /// `is_last`: where, in bits.
    pub is_last: u32,
    /// `dlen`: where, and how many bits.
    pub dlen: (u32, u32),
    /// `handle`: where, and how many bits.
    pub handle: (u32, u32),
}

/// A bit-field of at most 8 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits {
    /// The byte that holds its first bit.
    pub byte: u32,
    /// Bits to shift it right by.
    pub shift: u32,
    /// How many bits it has.
    pub bits: u32,
}

impl Bits {
    /// Append to `b` what loads it.
    pub fn load(self, b: &mut Builder, base: Reg) -> Reg {
        let byte = b.kernel_load(base, self.byte as i32, Size::B1);
        let shifted = match self.shift {
            0 => byte,
            shift => b.bin(BinOp::Shr, Width::W64, byte, i64::from(shift)),
        };
        b.and(shifted, (1 << self.bits) - 1)
    }
}

/// How an skb says that `vlan_tci` holds a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VlanTag {
    /// By a flag, `vlan_present` (up to 6.1).
    Flag(Bits),
    /// By `vlan_all`, 4 bytes at this offset: tag and protocol are not both 0 (6.2+).
    NotZero(u32),
}

/// A field that this kernel's BTF doesn't have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this kernel's BTF has no field {path} in struct {owner}: ktrail does not know this kernel's packets"
)]
pub struct Missing {
    /// The struct.
    pub owner: &'static str,
    /// The dotted path.
    pub path: &'static str,
}

impl Offsets {
    /// Look them all up.
    ///
    /// # Errors
    /// The first field that is missing.
    pub fn resolve(types: &dyn Types) -> Result<Offsets, Missing> {
        let at = |owner, path| {
            field::path(types, owner, path)
                .map(|f| f.offset())
                .ok_or(Missing { owner, path })
        };
        let bits = |owner, path| {
            field::path(types, owner, path)
                .filter(|f| f.bits > 0 && f.bit_offset % 8 + f.bits <= 8)
                .map(|f| Bits {
                    byte: f.offset(),
                    shift: f.bit_offset % 8,
                    bits: f.bits,
                })
                .ok_or(Missing { owner, path })
        };
        let vlan = match bits("sk_buff", "vlan_present") {
            Ok(flag) => VlanTag::Flag(flag),
            Err(_) => VlanTag::NotZero(at("sk_buff", "vlan_all")?),
        };
        Ok(Offsets {
            skb_len: at("sk_buff", "len")?,
            skb_mark: at("sk_buff", "mark")?,
            skb_protocol: at("sk_buff", "protocol")?,
            skb_network_header: at("sk_buff", "network_header")?,
            skb_mac_header: at("sk_buff", "mac_header")?,
            skb_tail: at("sk_buff", "tail")?,
            skb_head: at("sk_buff", "head")?,
            skb_data: at("sk_buff", "data")?,
            skb_dev: at("sk_buff", "dev")?,
            skb_sk: at("sk_buff", "sk")?,
            skb_dst: at("sk_buff", "_skb_refdst")?,
            skb_iif: at("sk_buff", "skb_iif")?,
            skb_pkt_type: bits("sk_buff", "pkt_type")?,
            skb_vlan: vlan,
            skb_vlan_tci: at("sk_buff", "vlan_tci")?,
            skb_nfct: at("sk_buff", "_nfct").ok(),
            dev_ifindex: at("net_device", "ifindex")?,
            dev_type: at("net_device", "type")?,
            dev_name: at("net_device", "name")?,
            dev_net: at("net_device", "nd_net.net")?,
            sock_net: at("sock", "__sk_common.skc_net.net")?,
            net_inum: at("net", "ns.inum")?,
            netfilter: netfilter(types),
        })
    }
}

fn netfilter(types: &dyn Types) -> Option<NetfilterOffsets> {
    let at = |owner, path| field::path(types, owner, path).map(|f| f.offset());
    let rules = || {
        let header = |name| {
            field::path(types, "nft_rule_dp", name)
                .filter(|f| f.bits > 0 && f.bit_offset + f.bits <= 64)
                .map(|f| (f.bit_offset, f.bits))
        };
        Some(RuleOffsets {
            expr_size: at("nft_expr_ops", "size")?,
            last_chain: at("nft_rule_dp_last", "chain")?,
            chain_blobs: [at("nft_chain", "blob_gen_0")?, at("nft_chain", "blob_gen_1")?],
            blob_size: at("nft_rule_blob", "size")?,
            blob_data: at("nft_rule_blob", "data")?,
            header: at("nft_rule_dp", "data")?,
            is_last: header("is_last")?.0,
            dlen: header("dlen")?,
            handle: header("handle")?,
        })
    };
    let nft = || {
        let expression = at("nft_expr", "data")?;
        let family = field::path(types, "nft_table", "family")?;
        Some(NftOffsets {
            chain_table: at("nft_chain", "table")?,
            chain_name: at("nft_chain", "name")?,
            table_name: at("nft_table", "name")?,
            table_family: Bits {
                byte: family.offset(),
                shift: family.bit_offset % 8,
                bits: family.bits,
            },
            verdict: VerdictOffsets {
                register: expression + at("nft_immediate_expr", "dreg")?,
                code: expression + at("nft_immediate_expr", "data.verdict.code")?,
            },
            rules: rules(),
        })
    };
    Some(NetfilterOffsets {
        state_hook: at("nf_hook_state", "hook")?,
        state_pf: at("nf_hook_state", "pf")?,
        nft: nft(),
        xt_table_name: at("xt_table", "name"),
    })
}
