//! The kernel's helper functions that programs may call.
//!
//! One table: number, name, first kernel, arguments, result. Argument rules are those of each helper's
//! `struct bpf_func_proto` in the kernel, as far as the IR's verifier can check them.
//!
//! Deliberately absent: which program type may call which helper (the kernel says so at load time), and kfuncs.

use ArgKind::*;
use RetKind as R;

/// What a helper takes in one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArgKind {
    /// Any integer.
    Int,
    /// The program's context.
    Ctx,
    /// A map.
    Map,
    /// A pointer to `key_size` readable bytes: stack or map value.
    MapKey,
    /// A pointer to `value_size` readable bytes: stack, map value.
    MapValue,
    /// A pointer to memory that the helper reads; the next argument is its size in bytes.
    MemIn,
    /// A pointer to memory that the helper fills; the next argument is its size in bytes.
    MemOut,
    /// A pointer to 8 bytes of memory, initialised, that the helper fills.
    U64Out,
    /// The size of the memory before it, at least 1 byte.
    Size,
    /// The size of the memory before it, 0 allowed.
    SizeOrZero,
    /// A constant.
    Const,
    /// A kernel address, or an integer that is one.
    KernelAddr,
    /// A kernel address whose pointee the kernel's verifier knows by BTF.
    TypedAddr,
    /// A user-space address, or an integer that is one.
    UserAddr,
    /// A function of the program, which the helper calls: [`crate::ir::Op::Each`].
    Func,
    /// A ring buffer record, which the helper consumes.
    Record,
}

/// What a helper returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetKind {
    /// Nothing.
    Void,
    /// An integer: a value, or 0 and a negative error number.
    Int,
    /// The address of a value of the map in argument 0, or null.
    MapValueOrNull,
    /// A ring buffer record as large as argument 1 says, or null.
    RecordOrNull,
    /// A kernel address. A helper that returns a `struct task_struct *` as an integer counts as this.
    KernelAddr,
}

/// A helper's prototype.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Its arguments in order; at most 5.
    pub args: &'static [ArgKind],
    /// Its result.
    pub ret: RetKind,
}

macro_rules! helpers {
    ($($variant:ident = $id:literal, $name:literal, ($major:literal, $minor:literal), [$($arg:expr),*] => $ret:expr;)*) => {
        /// A helper, numbered as `enum bpf_func_id` of the kernel's UAPI.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs)] // the kernel's own names, documented in bpf-helpers(7)
        pub enum Helper {
            $($variant = $id,)*
        }

        impl Helper {
            /// Every helper of the table, in order of number.
            pub const ALL: &[Helper] = &[$(Helper::$variant),*];

            /// The kernel's name for it.
            pub fn name(self) -> &'static str {
                match self { $(Helper::$variant => $name,)* }
            }

            /// The first kernel version that has it.
            pub fn since(self) -> (u32, u32) {
                match self { $(Helper::$variant => ($major, $minor),)* }
            }

            /// Its arguments and result.
            pub fn signature(self) -> Signature {
                match self {
                    $(Helper::$variant => Signature { args: const { &[$($arg),*] }, ret: $ret },)*
                }
            }

            /// The helper of that number.
            pub fn from_id(id: i32) -> Option<Helper> {
                match id { $($id => Some(Helper::$variant),)* _ => None }
            }
        }
    };
}

helpers! {
    MapLookupElem = 1, "bpf_map_lookup_elem", (3, 19), [Map, MapKey] => R::MapValueOrNull;
    MapUpdateElem = 2, "bpf_map_update_elem", (3, 19), [Map, MapKey, MapValue, Int] => R::Int;
    MapDeleteElem = 3, "bpf_map_delete_elem", (3, 19), [Map, MapKey] => R::Int;
    KtimeGetNs = 5, "bpf_ktime_get_ns", (4, 1), [] => R::Int;
    GetPrandomU32 = 7, "bpf_get_prandom_u32", (4, 1), [] => R::Int;
    GetSmpProcessorId = 8, "bpf_get_smp_processor_id", (4, 1), [] => R::Int;
    GetCurrentPidTgid = 14, "bpf_get_current_pid_tgid", (4, 2), [] => R::Int;
    GetCurrentUidGid = 15, "bpf_get_current_uid_gid", (4, 2), [] => R::Int;
    GetCurrentComm = 16, "bpf_get_current_comm", (4, 2), [MemOut, Size] => R::Int;
    SkbLoadBytes = 26, "bpf_skb_load_bytes", (4, 5), [Ctx, Int, MemOut, Size] => R::Int;
    GetStackid = 27, "bpf_get_stackid", (4, 6), [Ctx, Map, Int] => R::Int;
    GetCurrentTask = 35, "bpf_get_current_task", (4, 8), [] => R::KernelAddr;
    ProbeWriteUser = 36, "bpf_probe_write_user", (4, 8), [UserAddr, MemIn, Size] => R::Int;
    GetNumaNodeId = 42, "bpf_get_numa_node_id", (4, 10), [] => R::Int;
    GetSocketCookie = 46, "bpf_get_socket_cookie", (5, 12), [TypedAddr] => R::Int;
    OverrideReturn = 58, "bpf_override_return", (4, 16), [Ctx, Int] => R::Int;
    GetStack = 67, "bpf_get_stack", (4, 18), [Ctx, MemOut, SizeOrZero, Int] => R::Int;
    GetCurrentCgroupId = 80, "bpf_get_current_cgroup_id", (4, 18), [] => R::Int;
    SendSignal = 109, "bpf_send_signal", (5, 3), [Int] => R::Int;
    ProbeReadUser = 112, "bpf_probe_read_user", (5, 5), [MemOut, SizeOrZero, UserAddr] => R::Int;
    ProbeReadKernel = 113, "bpf_probe_read_kernel", (5, 5), [MemOut, SizeOrZero, KernelAddr] => R::Int;
    ProbeReadUserStr = 114, "bpf_probe_read_user_str", (5, 5), [MemOut, SizeOrZero, UserAddr] => R::Int;
    ProbeReadKernelStr = 115, "bpf_probe_read_kernel_str", (5, 5), [MemOut, SizeOrZero, KernelAddr] => R::Int;
    SendSignalThread = 117, "bpf_send_signal_thread", (5, 5), [Int] => R::Int;
    Jiffies64 = 118, "bpf_jiffies64", (5, 5), [] => R::Int;
    GetNsCurrentPidTgid = 120, "bpf_get_ns_current_pid_tgid", (5, 7), [Int, Int, MemOut, Size] => R::Int;
    KtimeGetBootNs = 125, "bpf_ktime_get_boot_ns", (5, 7), [] => R::Int;
    RingbufOutput = 130, "bpf_ringbuf_output", (5, 8), [Map, MemIn, SizeOrZero, Int] => R::Int;
    RingbufReserve = 131, "bpf_ringbuf_reserve", (5, 8), [Map, Const, Int] => R::RecordOrNull;
    RingbufSubmit = 132, "bpf_ringbuf_submit", (5, 8), [Record, Int] => R::Void;
    RingbufDiscard = 133, "bpf_ringbuf_discard", (5, 8), [Record, Int] => R::Void;
    RingbufQuery = 134, "bpf_ringbuf_query", (5, 8), [Map, Int] => R::Int;
    DPath = 147, "bpf_d_path", (5, 10), [TypedAddr, MemOut, Size] => R::Int;
    ForEachMapElem = 164, "bpf_for_each_map_elem", (5, 13), [Map, Func, Const, Int] => R::Int;
    GetFuncIp = 173, "bpf_get_func_ip", (5, 15), [Ctx] => R::Int;
    GetAttachCookie = 174, "bpf_get_attach_cookie", (5, 15), [Ctx] => R::Int;
    GetFuncArg = 183, "bpf_get_func_arg", (5, 17), [Ctx, Int, U64Out] => R::Int;
    GetFuncRet = 184, "bpf_get_func_ret", (5, 17), [Ctx, U64Out] => R::Int;
    MapLookupPercpuElem = 195, "bpf_map_lookup_percpu_elem", (5, 19), [Map, MapKey, Int] => R::MapValueOrNull;
    KtimeGetTaiNs = 208, "bpf_ktime_get_tai_ns", (6, 1), [] => R::Int;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        let mut last = 0;
        for helper in Helper::ALL {
            let id = *helper as i32;
            assert!(id > last, "{} out of order", helper.name());
            last = id;
            assert_eq!(Helper::from_id(id), Some(*helper));
            assert!(helper.name().starts_with("bpf_"));
            let args = helper.signature().args;
            assert!(args.len() <= 5);
            for (i, arg) in args.iter().enumerate() {
                if matches!(arg, MemIn | MemOut) {
                    assert!(
                        matches!(args.get(i + 1), Some(Size | SizeOrZero)),
                        "{}: memory without a size",
                        helper.name()
                    );
                }
            }
        }
        assert_eq!(Helper::from_id(0), None);
    }
}
