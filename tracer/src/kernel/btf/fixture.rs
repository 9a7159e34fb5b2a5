//! A small BTF, written by hand, and what this module must find in it.

use ktrail_ebpf::kernel::{KType, Space, TypeId, Types};

use super::{Indirection, KernelBtf};

/// Writes BTF, the kernel's or, on top of it, a module's.
struct Writer {
    types: Vec<u8>,
    strings: Vec<u8>,
    first_string: u32,
    next: u32,
}

impl Writer {
    fn base() -> Self {
        Writer {
            types: Vec::new(),
            strings: vec![0],
            first_string: 0,
            next: 1,
        }
    }

    fn on(base: &Writer) -> Self {
        Writer {
            types: Vec::new(),
            strings: Vec::new(),
            first_string: base.strings.len() as u32,
            next: base.next,
        }
    }

    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = self.first_string + self.strings.len() as u32;
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        at
    }

    /// One type: `struct btf_type` and what follows it.
    fn ty(&mut self, name: &str, kind: u32, vlen: usize, size_or_type: u32, rest: &[u32]) -> u32 {
        let name = self.string(name);
        for word in [name, kind << 24 | vlen as u32, size_or_type].iter().chain(rest) {
            self.types.extend_from_slice(&word.to_ne_bytes());
        }
        self.next += 1;
        self.next - 1
    }

    fn int(&mut self, name: &str, size: u32) -> u32 {
        self.ty(name, 1, 0, size, &[size * 8])
    }

    fn ptr(&mut self, to: u32) -> u32 {
        self.ty("", 2, 0, to, &[])
    }

    fn structure(&mut self, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        let mut rest = Vec::new();
        for (name, ty, bits) in members {
            rest.extend([self.string(name), *ty, *bits]);
        }
        self.ty(name, 4, members.len(), size, &rest)
    }

    fn enumeration(&mut self, name: &str, values: &[(&str, u32)]) -> u32 {
        let mut rest = Vec::new();
        for (name, value) in values {
            rest.extend([self.string(name), *value]);
        }
        self.ty(name, 6, values.len(), 4, &rest)
    }

    fn proto(&mut self, params: &[u32]) -> u32 {
        let rest: Vec<u32> = params.iter().flat_map(|&ty| [0, ty]).collect();
        self.ty("", 13, params.len(), 0, &rest)
    }

    fn func(&mut self, name: &str, params: &[u32]) -> u32 {
        let proto = self.proto(params);
        self.ty(name, 12, 0, proto, &[])
    }

    fn bytes(&self) -> Vec<u8> {
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        let mut out = Vec::new();
        out.extend_from_slice(&0xeb9f_u16.to_ne_bytes());
        out.extend_from_slice(&[1, 0]);
        for word in [24, 0, types, types, strings] {
            out.extend_from_slice(&u32::to_ne_bytes(word));
        }
        out.extend_from_slice(&self.types);
        out.extend_from_slice(&self.strings);
        out
    }
}

const CONST: u32 = 10;
const TYPEDEF: u32 = 8;
const VARIADIC: u32 = 0;

fn kernel() -> KernelBtf {
    let mut w = Writer::base();
    let int = w.int("int", 4);
    let skb = w.structure("sk_buff", 8, &[("len", int, 0), ("mark", int, 32)]);
    let skb_ptr = w.ptr(skb);
    let constant = w.ty("", CONST, 0, skb, &[]);
    let const_ptr = w.ptr(constant);
    let ptr_ptr = w.ptr(skb_ptr);
    let small = w.structure("small", 8, &[("a", int, 0)]);
    let sockptr = w.structure("sockptr", 16, &[("a", int, 0)]);
    let big = w.structure("big", 24, &[("a", int, 0)]);
    let void_ptr = w.ptr(0);
    w.func("plain", &[skb_ptr, int]);
    w.func("constant", &[int, const_ptr]);
    w.func("list", &[int, int, ptr_ptr]);
    w.func("none", &[int, void_ptr]);
    w.func("by_value", &[skb]);
    w.func("variadic", &[skb_ptr, VARIADIC]);
    w.func("sixth", &[int, int, int, int, int, skb_ptr]);
    w.func("seventh", &[int, int, int, int, int, int, skb_ptr]);
    w.func("after_structs", &[small, sockptr, big, skb_ptr]);
    let proto = w.proto(&[void_ptr, int, skb_ptr]);
    let pointer = w.ptr(proto);
    w.ty("btf_trace_net_thing", TYPEDEF, 0, pointer, &[]);
    let proto = w.proto(&[void_ptr, int]);
    let pointer = w.ptr(proto);
    w.ty("btf_trace_other", TYPEDEF, 0, pointer, &[]);
    w.enumeration("reason", &[("NOT_SPECIFIED", 2), ("NO_SOCKET", 3)]);

    let pktinfo = w.structure("nft_pktinfo", 8, &[("skb", skb_ptr, 0)]);
    let pktinfo_ptr = w.ptr(pktinfo);
    w.func("nft_immediate_eval", &[void_ptr, void_ptr, pktinfo_ptr]);
    w.func("nft_cmp_eval", &[void_ptr, void_ptr, pktinfo_ptr]);
    w.func("both", &[pktinfo_ptr, skb_ptr]);

    let mut m = Writer::on(&w);
    m.func("in_module", &[int, skb_ptr]);
    let own = m.structure("only_here", 4, &[("inner", int, 0)]);
    let own_ptr = m.ptr(own);
    m.func("uses_own", &[own_ptr, skb_ptr]);
    KernelBtf::from_bytes(&w.bytes(), &[("mod", &m.bytes())]).expect("the fixture is well-formed")
}

#[test]
fn functions_with_an_skb_are_found() {
    let btf = kernel();
    let found: Vec<_> = btf
        .skb_functions()
        .iter()
        .map(|f| {
            (
                f.name.as_str(),
                f.module.as_str(),
                f.arg,
                f.indirection,
                f.constant,
            )
        })
        .collect();
    use Indirection::{Pktinfo, Skb, SkbPtrPtr};
    let seventh = if cfg!(target_arch = "x86_64") {
        None
    } else {
        Some(6)
    };
    assert_eq!(
        found,
        [
            ("plain", "", Some(0), Skb, false),
            ("constant", "", Some(1), Skb, true),
            ("list", "", Some(2), SkbPtrPtr, false),
            ("variadic", "", Some(0), Skb, false),
            ("sixth", "", Some(5), Skb, false),
            ("seventh", "", seventh, Skb, false),
            // One register for the small struct, two for the next, none for the one on the stack.
            ("after_structs", "", Some(3), Skb, false),
            ("nft_immediate_eval", "", Some(2), Pktinfo, true),
            ("both", "", Some(1), Skb, false),
            ("in_module", "mod", Some(1), Skb, false),
            ("uses_own", "mod", Some(1), Skb, false),
        ]
    );
    // Nor can trampolines pass on the struct on the stack.
    let others: Vec<_> = btf.skb_functions().iter().filter(|f| !f.trampoline).collect();
    let others: Vec<_> = others.iter().map(|f| (f.name.as_str(), f.params)).collect();
    assert_eq!(others, [("variadic", 1), ("after_structs", 4)]);
}

#[test]
fn tracepoints_with_an_skb_are_found() {
    let btf = kernel();
    let [tracepoint] = btf.skb_tracepoints() else {
        panic!("one is there: {:?}", btf.skb_tracepoints());
    };
    assert_eq!(
        (tracepoint.name.as_str(), tracepoint.arg, tracepoint.params),
        ("net_thing", 1, 2)
    );
    assert_eq!(btf.tracepoint("net_thing"), Some(tracepoint.id));
    assert!(matches!(btf.get(tracepoint.proto), Some(KType::Proto { params, .. }) if params.len() == 3));
}

#[test]
fn types_are_found_by_name() {
    let btf = kernel();
    let skb = btf.by_name(Space::Struct, "sk_buff").expect("it is there");
    let Some(KType::Struct {
        name,
        size,
        members,
        union: false,
    }) = btf.get(skb)
    else {
        panic!("a struct");
    };
    assert_eq!((name.as_str(), size), ("sk_buff", 8));
    assert_eq!(
        (members[1].name.as_str(), members[1].bit_offset, members[1].bits),
        ("mark", 32, 0)
    );
    assert_eq!(btf.by_name(Space::Union, "sk_buff"), None);

    // A module's type names the kernel's by the kernel's ids.
    let own = btf.by_name(Space::Struct, "only_here").expect("it is there");
    assert_eq!((own.object, btf.module(own)), (1, "mod"));
    let Some(KType::Struct { members, .. }) = btf.get(own) else {
        panic!("a struct");
    };
    assert_eq!(Some(members[0].ty), btf.by_name(Space::Int, "int"));

    let func = btf.by_name(Space::Func, "in_module").expect("it is there");
    assert_eq!(func.object, 1);
    let Some(KType::Func { proto, .. }) = btf.get(func) else {
        panic!("a function");
    };
    let Some(KType::Proto {
        params,
        variadic: false,
        ..
    }) = btf.get(proto)
    else {
        panic!("a prototype");
    };
    assert_eq!(params.len(), 2);
    assert_eq!(btf.get(TypeId { object: 9, id: 1 }), None);
    assert_eq!(
        btf.get(TypeId {
            object: 0,
            id: 100_000
        }),
        None
    );
}

/// However often functions are asked for, and so whether a walk or the index answers.
#[test]
fn functions_are_found_by_name() {
    let btf = kernel();
    let functions = btf.functions();
    assert!(
        functions.iter().any(|(_, module)| module == "mod"),
        "{functions:?}"
    );
    let ask = || -> Vec<Option<TypeId>> {
        let each = functions
            .iter()
            .map(|(name, module)| btf.function(Some(module), name));
        each.chain([
            btf.function(None, "in_module"),
            btf.function(Some("vmlinux"), "in_module"),
            btf.function(Some("other"), "in_module"),
            btf.function(None, "nowhere"),
        ])
        .collect()
    };
    let walked = functions
        .iter()
        .map(|(name, module)| kernel().function(Some(module), name));
    let walked: Vec<_> = walked
        .chain([kernel().function(None, "in_module"), None, None, None])
        .collect();
    for _ in 0..10 {
        assert_eq!(ask(), walked);
    }
    assert!(walked.iter().rev().skip(3).all(Option::is_some), "{walked:?}");
}

#[test]
fn enums_give_names_and_numbers() {
    assert_eq!(
        kernel().enum_values("reason"),
        Some(vec![("NOT_SPECIFIED".into(), 2), ("NO_SOCKET".into(), 3)])
    );
    assert_eq!(kernel().enum_values("sk_buff"), None);
}

#[test]
fn what_is_no_btf_is_an_error() {
    assert!(KernelBtf::from_bytes(b"no", &[]).is_err());
    let error = KernelBtf::load_from(std::path::Path::new("/nonexistent"))
        .err()
        .expect("it fails");
    assert!(
        error.to_string().contains("/nonexistent/vmlinux: No such file"),
        "{error}"
    );
    assert!(error.to_string().contains("CONFIG_DEBUG_INFO_BTF=y"), "{error}");
}

#[test]
fn types_are_declared_as_in_c() {
    const UNION: u32 = 5;
    const ARRAY: u32 = 3;
    const FORWARD: u32 = 7;
    const STRUCT: u32 = 4;
    const ENUM: u32 = 6;
    // Means a union, signed values, or bit-fields' sizes beside their offsets, by kind.
    const KIND_FLAG: usize = 1 << 31;
    let mut w = Writer::base();
    let int = w.int("int", 4);
    let chars = w.int("char", 1);
    let skb = w.structure("sk_buff", 8, &[("len", int, 0)]);
    let constant = w.ty("", CONST, 0, skb, &[]);
    let pointer = w.ptr(constant);
    let fixed = w.ty("", CONST, 0, pointer, &[]);
    let twice = w.ptr(pointer);
    let array = w.ty("", ARRAY, 0, 0, &[chars, int, 16]);
    let to_array = w.ptr(array);
    let pointers = w.ty("", ARRAY, 0, 0, &[pointer, int, 2]);
    let unknown = w.ty("nowhere", FORWARD, KIND_FLAG, 0, &[]);
    let unknown = w.ptr(unknown);
    let proto = w.proto(&[pointer, VARIADIC]);
    let callback = w.ptr(proto);
    let none = w.proto(&[]);
    let none = w.ptr(none);
    let address = [w.string("word"), int, 0, w.string("bytes"), array, 0];
    let address = w.ty("", UNION, 2, 16, &address);
    let mode = [w.string("OFF"), 0, w.string("BAD"), u32::MAX];
    let mode = w.ty("", ENUM, 2 | KIND_FLAG, 4, &mode);
    let members = [
        ("", address, 0),
        ("low", int, 3 << 24 | 128),
        ("mode", mode, 160),
        ("okfn", callback, 192),
    ];
    let members = members.map(|(name, ty, at)| [w.string(name), ty, at]).concat();
    let hook = w.ty("hook", STRUCT, 4 | KIND_FLAG, 32, &members);
    let btf = KernelBtf::from_bytes(&w.bytes(), &[]).expect("the fixture is well-formed");
    let id = |id| TypeId { object: 0, id };
    for (ty, text) in [
        (0, "void"),
        (int, "int"),
        (pointer, "const struct sk_buff *"),
        (fixed, "const struct sk_buff * const"),
        (twice, "const struct sk_buff **"),
        (array, "char [16]"),
        (to_array, "char (*)[16]"),
        (pointers, "const struct sk_buff *[2]"),
        (unknown, "union nowhere *"),
        (callback, "void (*)(const struct sk_buff *, ...)"),
        (none, "void (*)(void)"),
    ] {
        assert_eq!(super::c_type(&btf, id(ty)), text);
    }
    assert_eq!(super::definition(&btf, id(int)), None);
    assert_eq!(
        super::definition(&btf, id(hook)).as_deref(),
        Some(concat!(
            "struct hook {\n",
            "\tunion {\n\t\tint word;\n\t\tchar bytes[16];\n\t};\n",
            "\tint low: 3;\n",
            "\tenum {\n\t\tOFF = 0,\n\t\tBAD = -1,\n\t} mode;\n",
            "\tvoid (*okfn)(const struct sk_buff *, ...);\n",
            "}",
        ))
    );
}
