//! The IR as text, for tests, `--dump ir` and messages. [`parse`] reads what printing a [`Program`] wrote.
//!
//! ```text
//! program smoke kprobe
//! map events ringbuf key 0 value 0 entries 4096
//!
//! fn 0 main() {
//!   kernel %0
//!   int %1 %2
//!   slot $0 16 align 8
//! b0:
//!   %0 = arg 0
//!   %1 = kload.u32 [%0 + 112]
//!   if eq %1, 0 then b2 else b1
//! b1: loop 10 else b2
//!   %2 = add %1, 1           !12..20
//!   jump b1
//! b2:
//!   ret 0
//! }
//! ```
//!
//! One line an operation. `.32` behind an operation makes it 32 bits wide; `.u16` and `.s16` name a size, with
//! its sign where it is extended; `pload.be16` loads from a packet in network byte order. `!12..20` at the end is
//! the span of the source text. `#` starts a comment.
//!
//! Deliberately absent: names of registers and blocks, which the IR has none of.

mod parse;
mod print;

pub use parse::{ParseError, parse};

use super::*;

/// The names of the binary operations.
const BINARY: [(BinOp, &str); 13] = [
    (BinOp::Add, "add"),
    (BinOp::Sub, "sub"),
    (BinOp::Mul, "mul"),
    (BinOp::Div, "div"),
    (BinOp::Mod, "mod"),
    (BinOp::SDiv, "sdiv"),
    (BinOp::SMod, "smod"),
    (BinOp::And, "and"),
    (BinOp::Or, "or"),
    (BinOp::Xor, "xor"),
    (BinOp::Shl, "shl"),
    (BinOp::Shr, "shr"),
    (BinOp::Sar, "sar"),
];

/// The names of the comparisons.
const CONDITIONS: [(Cond, &str); 11] = [
    (Cond::Eq, "eq"),
    (Cond::Ne, "ne"),
    (Cond::Lt, "lt"),
    (Cond::Le, "le"),
    (Cond::Gt, "gt"),
    (Cond::Ge, "ge"),
    (Cond::SLt, "slt"),
    (Cond::SLe, "sle"),
    (Cond::SGt, "sgt"),
    (Cond::SGe, "sge"),
    (Cond::Test, "test"),
];

/// The names of the atomic operations.
const ATOMICS: [(AtomicOp, &str); 5] = [
    (AtomicOp::Add, "add"),
    (AtomicOp::And, "and"),
    (AtomicOp::Or, "or"),
    (AtomicOp::Xor, "xor"),
    (AtomicOp::Xchg, "xchg"),
];

/// The names of the program kinds.
const KINDS: [(ProgramKind, &str); 7] = [
    (ProgramKind::Kprobe, "kprobe"),
    (ProgramKind::Tracing, "tracing"),
    (ProgramKind::TracingMulti, "tracing_multi"),
    (ProgramKind::RawTracepoint, "raw_tracepoint"),
    (ProgramKind::Tracepoint, "tracepoint"),
    (ProgramKind::PerfEvent, "perf_event"),
    (ProgramKind::SchedCls, "sched_cls"),
];

/// The names of the map types, as bpftool has them.
const MAP_KINDS: [(MapKind, &str); 8] = [
    (MapKind::Hash, "hash"),
    (MapKind::Array, "array"),
    (MapKind::PercpuHash, "percpu_hash"),
    (MapKind::PercpuArray, "percpu_array"),
    (MapKind::StackTrace, "stack_trace"),
    (MapKind::LruHash, "lru_hash"),
    (MapKind::LruPercpuHash, "lru_percpu_hash"),
    (MapKind::RingBuf, "ringbuf"),
];

/// The name of a value in one of the tables above.
fn name_of<T: PartialEq>(table: &[(T, &'static str)], value: T) -> &'static str {
    table
        .iter()
        .find(|(v, _)| *v == value)
        .map_or("?", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Helper;

    /// One of each.
    const ALL: &str = "\
program all tracing
map events ringbuf key 0 value 0 entries 4096
map counts array key 4 value 64 entries 1

fn 0 main() {
  int %0 %1
  ctx %2
  stack %3
  map %4
  value @counts %5
  value? @counts %6
  record 16 %7
  record? 16 %8
  kernel %9
  kernel direct %10
  user %11
  packet %12
  slot $0 16 align 8
b0:
  %0 = 5
  %1 = %0
  %0 = add %0, %1
  %0 = shl.32 %0, -3           !3..9
  %0 = neg %0
  %0 = neg.32 %0
  %0 = swap.u16 %0
  %0 = extend.s8 %0
  %2 = ctx
  %0 = load.u32 [%2 + 8]
  %0 = load.s16 [%2 - 8]
  store.u64 [%3 + 0], %0
  store.u8 [%3 + 1], 7
  atomic.u64 add [%5 + 8], %0
  %1 = atomic.u32 xchg [%5 + 8], %0
  %3 = addr $0 + 4
  %4 = map @events
  %5 = data @counts + 8
  %9 = arg 0
  %0 = kload.s32 [%9 + 112]
  kread $0 + 8, [%9 + 112], 8
  %12 = packet %9
  %0 = pload.u8 %12[9]
  %0 = pload.be16 %12[%1]
  %8 = call bpf_ringbuf_reserve(%4, 16, 0)
  call bpf_ktime_get_ns()
  %0 = fn 1(%0, 3)
  fn 1(%0, %1)
  nonnull %7 = %8 then b1 else b3
b1: loop 10 else b3
  if slt %0, 7 then b1 else b2
b2:
  if.32 test %0, %1 then b3 else b1
b3:
  ret 0
}

fn 1 f(%0, %1) lean {
  int %0 %1
b0:
  ret %0           !1..2
}
";

    #[test]
    fn what_is_printed_is_read_again() {
        let program = parse(ALL).unwrap();
        assert_eq!(program.to_string(), ALL);
        assert_eq!(parse(&program.to_string()).unwrap(), program);
        assert_eq!(
            program.functions[0].blocks[0].insts[3].span,
            Span { start: 3, end: 9 }
        );
        let helper =
            |op: &Op| matches!(op, Op::Call { helper: Helper::RingbufReserve, args, .. } if args.len() == 3);
        assert!(program.functions[0].blocks[0].insts.iter().any(|i| helper(&i.op)));
    }

    #[test]
    fn errors_name_the_line() {
        for (from, to, message) in [
            (
                "%0 = 5",
                "%0 = five",
                "expected a register or a number, found `five`",
            ),
            ("add %0, %1", "add %0 %1", "expected `,`, found `%1`"),
            ("shl.32", "shl.16", "unknown width `.16`"),
            ("map @events", "map @nothing", "no map is named `nothing`"),
            ("bpf_ktime_get_ns", "bpf_none", "unknown helper `bpf_none`"),
            ("slot $0 16", "slot $1 16", "expected slot $0"),
            ("ctx %2", "ctx %0", "%0 has a type already"),
            ("b2:\n", "b3:\n", "expected block b2"),
            ("ret 0", "ret 0 1", "`1` is too much"),
            ("!3..9", "!3-9", "`!3-9` is not a span"),
        ] {
            let at = ALL.find(from).unwrap();
            let line = ALL[..at].matches('\n').count() + 1;
            let error = parse(&ALL.replacen(from, to, 1)).unwrap_err();
            assert_eq!((error.line, error.message.as_str()), (line, message), "{to}");
        }
        let error = parse("program x kprobe\nfn 0 main() {\nb0:\n  ret 0\n").unwrap_err();
        assert_eq!(error.message, "the text ends inside of a function");
    }
}
