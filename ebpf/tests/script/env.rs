//! A small world to compile in: some types, functions and tracepoints, as tables.

use ktrail_ebpf::kernel::{Features, KType, Member, Session, Space, TypeId, Types};
use ktrail_ebpf::script::env::{For, FunctionName, ScriptEnv, TracepointField, Trampoline};
use ktrail_ebpf::script::output::When;

/// The world.
pub struct Table {
    types: Vec<KType>,
    /// What the kernel can do.
    pub features: Features,
    /// What programs of kprobe sessions call.
    pub session: Option<Session>,
    /// What trampolines can do with all functions.
    pub trampoline: Trampoline,
    /// One link of trampolines serves many functions.
    pub multi: bool,
}

const INT: u32 = 0;
const U16: u32 = 1;
const CHAR: u32 = 2;
const U8: u32 = 3;
const COMM: u32 = 4;
const ADDRESS: u32 = 5;
const TASK: u32 = 6;
const TASK_PTR: u32 = 7;
const SOCK: u32 = 8;
const SOCK_PTR: u32 = 9;
const STATE: u32 = 10;
const PROTO: u32 = 11;
const INNER: u32 = 12;
const LONG: u32 = 13;
const OTHER_PROTO: u32 = 14;

fn id(id: u32) -> TypeId {
    TypeId { object: 0, id }
}

impl Table {
    pub fn new() -> Table {
        let int = |size, signed, char| KType::Int {
            name: String::new(),
            size,
            signed,
            boolean: false,
            char,
        };
        let member = |name: &str, ty, bit_offset, bits| Member {
            name: name.into(),
            ty: id(ty),
            bit_offset,
            bits,
        };
        let strukt = |name: &str, union, size, members| KType::Struct {
            name: name.into(),
            union,
            size,
            members,
        };
        let types = vec![
            int(4, true, false),
            int(2, false, false),
            int(1, true, true),
            int(1, false, false),
            KType::Array {
                element: id(CHAR),
                len: 16,
            },
            KType::Array {
                element: id(U8),
                len: 4,
            },
            strukt(
                "task_struct",
                false,
                64,
                vec![
                    member("tgid", INT, 0, 0),
                    member("real_parent", TASK_PTR, 64, 0),
                    member("comm", COMM, 128, 0),
                ],
            ),
            KType::Ptr(id(TASK)),
            strukt(
                "sock",
                false,
                64,
                vec![
                    member("port", U16, 0, 0),
                    member("flag", INT, 16, 1),
                    member("kind", INT, 17, 3),
                    member("", INNER, 32, 0),
                    member("owner", TASK_PTR, 64, 0),
                    member("address", ADDRESS, 128, 0),
                    member("state", STATE, 160, 0),
                    member("numbers", LONG, 192, 0),
                ],
            ),
            KType::Ptr(id(SOCK)),
            KType::Enum {
                name: "sock_state".into(),
                size: 4,
                signed: false,
                values: vec![("OPEN".into(), 1), ("SHUT".into(), 7)],
            },
            KType::Proto {
                params: vec![("sk".into(), id(SOCK_PTR)), ("len".into(), id(INT))],
                returns: id(INT),
                variadic: false,
            },
            strukt(
                "",
                true,
                4,
                vec![member("mark", INT, 0, 0), member("cookie", INT, 0, 0)],
            ),
            int(8, true, false),
            KType::Proto {
                params: vec![("len".into(), id(LONG))],
                returns: id(LONG),
                variadic: false,
            },
        ];
        Table {
            types,
            session: None,
            trampoline: Trampoline::No,
            multi: false,
            features: Features {
                atomic_fetch: true,
                cpu_v4: true,
                may_goto: true,
                get_func_ip: true,
                attach_cookie: true,
                ..Features::default()
            },
        }
    }
}

impl Types for Table {
    fn by_name(&self, space: Space, name: &str) -> Option<TypeId> {
        let found = match (space, name) {
            (Space::Struct, "task_struct") => TASK,
            (Space::Struct, "sock") => SOCK,
            (Space::Enum, "sock_state") => STATE,
            _ => return None,
        };
        Some(id(found))
    }

    fn get(&self, id: TypeId) -> Option<KType> {
        self.types.get(id.id as usize).cloned()
    }
}

const FUNCTIONS: &[&str] = &["tcp_close", "tcp_connect", "tcp_sendmsg", "vfs_read"];

fn function(name: &str) -> FunctionName {
    FunctionName {
        name: name.into(),
        module: None,
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

impl ScriptEnv for Table {
    fn types(&self) -> &dyn Types {
        self
    }
    fn features(&self) -> &Features {
        &self.features
    }
    fn session(&self) -> Option<Session> {
        self.session
    }
    fn trampoline(&self, _: &FunctionName) -> Trampoline {
        self.trampoline
    }
    fn tracing_multi(&self, _: &FunctionName, _: When) -> bool {
        self.multi
    }
    fn functions(&self, _: Option<&str>, pattern: &str, _: For) -> Vec<FunctionName> {
        FUNCTIONS
            .iter()
            .filter(|f| matches(pattern, f))
            .map(|f| function(f))
            .collect()
    }
    fn tracepoints(&self, category: &str, pattern: &str) -> Vec<(String, String)> {
        [("sched", "sched_switch"), ("syscalls", "sys_enter_openat")]
            .into_iter()
            .filter(|(c, n)| matches(category, c) && matches(pattern, n))
            .map(|(c, n)| (c.into(), n.into()))
            .collect()
    }
    fn tracepoint_fields(&self, category: &str, _: &str) -> Option<Vec<TracepointField>> {
        let field = |name: &str, c_type: &str, offset, size, array| TracepointField {
            name: name.into(),
            c_type: c_type.into(),
            offset,
            size,
            signed: c_type == "int",
            array,
        };
        Some(match category {
            "sched" => vec![
                field("prev_comm", "char", 8, 16, Some(16)),
                field("prev_pid", "int", 24, 4, None),
            ],
            _ => vec![field("filename", "const char *", 16, 8, None)],
        })
    }
    fn raw_tracepoints(&self, _: Option<&str>, pattern: &str) -> Vec<FunctionName> {
        let found = matches(pattern, "sched_wakeup");
        found.then(|| function("sched_wakeup")).into_iter().collect()
    }
    fn prototype(&self, function: &FunctionName) -> Option<TypeId> {
        Some(id(match function.name.as_str() {
            "vfs_read" => OTHER_PROTO,
            _ => PROTO,
        }))
    }
    fn raw_tracepoint_prototype(&self, _: &FunctionName) -> Option<TypeId> {
        Some(id(PROTO))
    }
    fn iterators(&self, pattern: &str) -> Vec<String> {
        matches(pattern, "task")
            .then(|| "task".into())
            .into_iter()
            .collect()
    }
    fn named_parameter(&self, name: &str) -> Option<String> {
        match name {
            "depth" => Some("7".into()),
            "flag" => Some("true".into()),
            "word" => Some("given".into()),
            _ => None,
        }
    }
    fn enum_constant(&self, name: &str) -> Option<(i64, TypeId)> {
        match name {
            "OPEN" => Some((1, id(STATE))),
            "SHUT" => Some((7, id(STATE))),
            _ => None,
        }
    }
    fn kernel_symbol(&self, name: &str) -> Option<u64> {
        let known = name == "avenrun" || FUNCTIONS.contains(&name);
        known.then_some(0xffff_ffff_8200_0000)
    }
    fn cgroup_id(&self, _: &str) -> Option<u64> {
        None
    }
    fn possible_cpus(&self) -> u32 {
        4
    }
    fn similar_functions(&self, _: &str) -> Vec<String> {
        vec!["tcp_connect".into()]
    }
}
