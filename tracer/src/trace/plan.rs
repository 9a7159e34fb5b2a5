//! What is attached where: functions and tracepoints grouped by the program that serves them.

use std::collections::{BTreeMap, HashSet};

use super::event::{Point, PointId, PointKind};
use super::program::{self, Role, Rules, SkbArg};

/// A function or a tracepoint that takes an skb, as the scan of BTF found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What the reader sees.
    pub point: Point,
    /// Where the skb is among its arguments.
    pub skb: SkbArg,
    /// How many arguments it has.
    pub params: u8,
    /// It takes another kind of program than most functions: no trampoline can serve it, and they go by those.
    pub apart: bool,
}

/// Attach points that one program serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What its points are.
    pub kind: PointKind,
    /// What the program has to be able to do. Where there are several, cookies say which is meant
    /// ([`program::cookie_for_case`]).
    pub cases: Vec<Case>,
    /// The points.
    pub points: Vec<PointId>,
    /// What the program is told at each of them.
    pub cookies: Vec<u64>,
}

/// What a program does at some points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Where the skb is.
    pub skb: SkbArg,
    /// What the points mean.
    pub role: Role,
    /// Nobody asked to see the points.
    pub quiet: bool,
}

/// Functions that run while an skb is being released. Its headers may still look like a packet's, so that a
/// journey would begin a second time there.
const RELEASING: &[&str] = &[
    "__consume_stateless_skb",
    "__dev_kfree_skb_any",
    "__dev_kfree_skb_irq",
    "__kfree_skb",
    "__kfree_skb_defer",
    "__napi_kfree_skb",
    "__sock_wfree",
    "consume_skb",
    "dev_consume_skb_any_reason",
    "dev_kfree_skb_any_reason",
    "dev_kfree_skb_irq_reason",
    "kfree_skb",
    "kfree_skb_list_reason",
    "kfree_skb_napi_cache",
    "kfree_skb_partial",
    "kfree_skb_reason",
    "napi_consume_skb",
    "napi_skb_cache_put",
    "napi_skb_free_stolen_head",
    "sk_skb_reason_drop",
    "skb_attempt_defer_free",
    "skb_free_head",
    "skb_release_all",
    "skb_release_data",
    "skb_release_head_state",
    "sock_efree",
    "sock_omalloc_release",
    "sock_rfree",
    "sock_wfree",
    "tcp_wfree",
    "unix_destruct_scm",
];

/// Functions that run when a process has got an skb's data, where no tracepoint does.
pub const COPYING: &[&str] = &[
    "skb_consume_udp",
    "skb_copy_and_csum_datagram_msg",
    "tcp_eat_recv_skb",
];

/// Functions that make one skb of another: name, position of the new one, position of the original. Of each line
/// the first that can be attached is enough: the others call it.
const CLONING: &[&[(&str, u8, u8)]] = &[
    &[("__copy_skb_header", 0, 1)],
    &[("__skb_clone", 0, 1), ("skb_copy_header", 0, 1)],
    &[("ip_copy_metadata", 0, 1)],
    &[("ip6_copy_metadata", 0, 1)],
];

/// Functions at a Netfilter hook: their `struct nf_hook_state *` follows the skb (4.4+).
const HOOKS: &[&str] = &["nf_hook_slow", "ipt_do_table", "ip6t_do_table", "nft_do_chain_*"];

/// Functions in which a rule of nftables gives its verdict: their first argument is the rule's expression.
fn verdict_role(name: &str) -> Option<Role> {
    Some(match name {
        "nft_immediate_eval" => Role::Verdict { immediate: true },
        _ if name.starts_with("nft_reject_") && name.ends_with("_eval") => Role::Verdict { immediate: false },
        _ => return None,
    })
}

/// The role of a function at a Netfilter hook, in whatever module.
fn hook_role(name: &str, skb: SkbArg) -> Option<Role> {
    let known = HOOKS.iter().any(|hook| match hook.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == *hook,
    });
    if !known || skb.indirect {
        return None;
    }
    let state = skb.index + 1;
    let rules = match name {
        "nf_hook_slow" => None,
        // (skb, state, table) until 5.15; (table, skb, state) since.
        "ipt_do_table" | "ip6t_do_table" if skb.index == 0 => Some(Rules::Xt(2)),
        "ipt_do_table" | "ip6t_do_table" => Some(Rules::Xt(0)),
        _ if skb.index == 1 => Some(Rules::Nft(0)),
        _ => None,
    };
    Some(Role::Hook { state, rules })
}

/// The role of a function of the kernel itself.
fn function_role(name: &str, attachable: &HashSet<&str>) -> (Role, Option<SkbArg>) {
    let cloning = CLONING
        .iter()
        .flat_map(|line| line.iter())
        .find(|(n, ..)| *n == name);
    if let Some(&(_, new, from)) = cloning {
        let copies_elsewhere =
            attachable.contains("__copy_skb_header") && matches!(name, "__skb_clone" | "skb_copy_header");
        if !copies_elsewhere {
            return (
                Role::Clone { from },
                Some(SkbArg {
                    index: new,
                    indirect: false,
                }),
            );
        }
        // The new skb is not one yet.
        return (
            Role::Pass,
            Some(SkbArg {
                index: from,
                indirect: false,
            }),
        );
    }
    let role = match name {
        "kfree_skbmem" | "napi_skb_cache_put" => Role::Free { only_if: None },
        // They put the skb into the cache themselves where that function is inlined (5.10, 6.1).
        "__kfree_skb_defer" | "napi_skb_free_stolen_head" if !attachable.contains(CACHE) => {
            Role::Free { only_if: None }
        }
        // Frees the skb alone when its head lives on in another; otherwise goes through kfree_skbmem.
        "kfree_skb_partial" => Role::Free { only_if: Some(1) },
        "pskb_expand_head" => Role::Reallocate,
        _ if COPYING.contains(&name) => Role::Copy,
        _ if RELEASING.contains(&name) => Role::PassFollowed,
        _ => Role::Pass,
    };
    (role, None)
}

/// Puts an skb into the CPU's cache instead of freeing it (5.15+). Only some kernels keep it a function.
const CACHE: &str = "napi_skb_cache_put";

/// The role of a tracepoint, where `functions` are attached beside it.
fn tracepoint_role(name: &str, params: u8, functions: &HashSet<&str>) -> Role {
    match name {
        "kfree_skb" => Role::Drop {
            location: 1,
            reason: (params > 2).then_some(2),
            last: functions.is_empty(),
        },
        // A consumed skb may go into the cache.
        "consume_skb" => Role::Consume {
            location: (params > 1).then_some(1),
            last: !functions.contains(CACHE),
        },
        "skb_copy_datagram_iovec" => Role::Copy,
        "net_dev_xmit" => Role::Transmit { code: 1 },
        _ => Role::Pass,
    }
}

/// Where an attach cookie can tell a program where its packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookies {
    /// At functions.
    pub functions: bool,
    /// At tracepoints: if a program may be written to read more arguments than some of them have.
    pub tracepoints: bool,
}

/// Whether packets pass between the stack and a device there: folded journeys are told apart by it.
pub fn at_device(point: &Point) -> bool {
    const TRACEPOINTS: &[&str] = &["net_dev_start_xmit", "netif_receive_skb", "netif_rx"];
    point.kind == PointKind::Tracepoint && TRACEPOINTS.contains(&&*point.name)
}

/// Group candidates by the program that they need. A candidate's number is its position. `cookies`: where programs
/// are told where they are. Then those that few share are one: each takes the kernel its time to check and to
/// attach, some 25 ms. Where a packet can only pass followed the role is told, too. `folds`: whether it matters
/// which device a packet passes to or from.
pub fn group(candidates: &[Candidate], cookies: Cookies, folds: bool) -> Vec<Group> {
    let functions: HashSet<&str> = candidates
        .iter()
        .filter(|c| c.point.kind == PointKind::Function && c.point.module.is_empty())
        .map(|c| c.point.name.as_str())
        .collect();
    type Points = (Vec<PointId>, Vec<u64>);
    let mut groups: BTreeMap<(PointKind, bool, SkbArg, Role, bool), Points> = BTreeMap::new();
    for (number, candidate) in (0..).zip(candidates) {
        let (mut role, skb) = role(candidate, &functions);
        if folds && role == Role::Pass && at_device(&candidate.point) {
            role = Role::Device;
        }
        let own = skb.is_none();
        let at = skb.unwrap_or(candidate.skb);
        let function = candidate.point.kind == PointKind::Function;
        let told = if function {
            cookies.functions
        } else {
            cookies.tracepoints
        };
        let tellable = told && own && at.index < SkbArg::MOST;
        if tellable && function && role == Role::Pass && at.indirect {
            // It may point to one that isn't set yet, so that no journey starts.
            role = Role::PassFollowed;
        }
        let mut skb = at;
        let mut cookie = number.into();
        // At a function one rather goes by the second argument, too: so are most of their packets.
        let rare = at.index >= if function { 2 } else { 1 } || candidate.apart;
        if let Some(told) = role.told().filter(|_| tellable && function) {
            cookie = program::cookie(number, at, told);
            skb = SkbArg::TOLD;
            role = Role::ByCookie;
        } else if tellable && role == Role::Pass && !at.indirect && rare {
            cookie = program::cookie(number, at, 0);
            skb = SkbArg::TOLD;
        }
        let apart = told && candidate.apart;
        let key = (candidate.point.kind, apart, skb, role, candidate.point.quiet);
        let (points, told) = groups.entry(key).or_default();
        points.push(PointId(number));
        told.push(cookie);
    }
    let mut programs: Vec<Group> = vec![];
    // Those that few hits go by share a program and a link, whatever they do; but those that are attached alike, and those
    // that leave at once where nothing is followed.
    let mut shared: [Option<Group>; 4] = Default::default();
    for ((kind, apart, skb, role, quiet), (points, told)) in groups {
        let case = Case { skb, role, quiet };
        let group = Group {
            kind,
            cases: vec![case],
            points,
            cookies: told,
        };
        let many = role == Role::Pass && !skb.indirect;
        if kind != PointKind::Function || !cookies.functions || many {
            programs.push(group);
        } else {
            match &mut shared[usize::from(apart) * 2 + usize::from(role.starts(skb))] {
                Some(shared) => shared.add(group),
                none => *none = Some(group),
            }
        }
    }
    programs.extend(shared.into_iter().flatten());
    programs
}

impl Group {
    /// The program does what `other`'s does, too.
    fn add(&mut self, other: Group) {
        for case in other.cases {
            let number = self.cases.len();
            self.cases.push(case);
            let told = other.cookies.iter();
            self.cookies
                .extend(told.map(|&cookie| program::cookie_for_case(cookie, number)));
        }
        self.points.extend(other.points);
    }
}

/// Whether packets' lives can't be followed without this function or tracepoint.
pub fn follows_lives(point: &Point) -> bool {
    let lives = match point.kind {
        PointKind::Tracepoint => tracepoint_role(&point.name, 0, &HashSet::new()),
        PointKind::Function => function_role(&point.name, &HashSet::new()).0,
    };
    point.module.is_empty() && !matches!(lives, Role::Pass | Role::PassFollowed)
}

/// Whether a journey's end is explained by this function.
pub fn explains_ends(point: &Point) -> bool {
    point.kind == PointKind::Function && verdict_role(&point.name).is_some()
}

fn role(candidate: &Candidate, functions: &HashSet<&str>) -> (Role, Option<SkbArg>) {
    let name = candidate.point.name.as_str();
    if candidate.point.kind == PointKind::Function
        && let Some(role) = verdict_role(name).or_else(|| hook_role(name, candidate.skb))
    {
        return (role, None);
    }
    match candidate.point.kind {
        _ if !candidate.point.module.is_empty() => (Role::Pass, None),
        PointKind::Function => function_role(name, functions),
        PointKind::Tracepoint => (tracepoint_role(name, candidate.params, functions), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Cookies = Cookies {
        functions: true,
        tracepoints: true,
    };
    const NONE: Cookies = Cookies {
        functions: false,
        tracepoints: false,
    };

    fn candidate(name: &str, kind: PointKind, index: u8, params: u8) -> Candidate {
        let point = Point {
            name: name.into(),
            module: String::new(),
            kind,
            quiet: false,
        };
        Candidate {
            point,
            skb: SkbArg {
                index,
                indirect: false,
            },
            params,
            apart: false,
        }
    }

    fn role_of(groups: &[Group], point: u32) -> (Role, u8) {
        let at = |g: &Group| g.points.iter().position(|&p| p == PointId(point));
        let (group, at) = groups.iter().find_map(|g| Some((g, at(g)?))).unwrap();
        let case = group.cases[(group.cookies[at] >> 48) as usize];
        (case.role, case.skb.index)
    }

    #[test]
    fn one_function_of_a_chain_tells_of_clones() {
        use PointKind::Function;
        let both = [
            candidate("__skb_clone", Function, 0, 2),
            candidate("__copy_skb_header", Function, 0, 2),
        ];
        let groups = group(&both, BOTH, false);
        assert_eq!(
            role_of(&groups, 0),
            (Role::Pass, 1),
            "the original passes; the clone is none yet"
        );
        assert_eq!(role_of(&groups, 1), (Role::Clone { from: 1 }, 0));
        let groups = group(&both[..1], BOTH, false);
        assert_eq!(role_of(&groups, 0), (Role::Clone { from: 1 }, 0));
    }

    #[test]
    fn a_drop_is_the_last_word_only_where_functions_are_not_seen() {
        use PointKind::{Function, Tracepoint};
        let drop = candidate("kfree_skb", Tracepoint, 0, 4);
        let alone = group(std::slice::from_ref(&drop), BOTH, false);
        assert_eq!(
            role_of(&alone, 0).0,
            Role::Drop {
                location: 1,
                reason: Some(2),
                last: true
            }
        );
        let with = group(&[drop, candidate("ip_rcv", Function, 0, 4)], BOTH, false);
        assert_eq!(
            role_of(&with, 0).0,
            Role::Drop {
                location: 1,
                reason: Some(2),
                last: false
            }
        );
    }

    #[test]
    fn netfilters_functions_tell_their_hook() {
        use PointKind::Function;
        let mut nft = candidate("nft_do_chain_ipv4", Function, 1, 3);
        nft.point.module = "nf_tables".into();
        let groups = group(
            &[
                candidate("nf_hook_slow", Function, 0, 4),
                nft,
                candidate("ipt_do_table", Function, 1, 3),
                candidate("ip6t_do_table", Function, 0, 3),
            ],
            BOTH,
            false,
        );
        let role = |point| role_of(&groups, point).0;
        let hook = |state, rules| Role::Hook { state, rules };
        assert_eq!(role(0), hook(1, None));
        assert_eq!(role(1), hook(2, Some(Rules::Nft(0))));
        assert_eq!(role(2), hook(2, Some(Rules::Xt(0))));
        assert_eq!(role(3), hook(1, Some(Rules::Xt(2))));
    }

    #[test]
    fn few_share_a_program_where_cookies_tell_them_apart() {
        use PointKind::Function;
        let all = [
            candidate("first", Function, 0, 1),
            candidate("third", Function, 2, 3),
            candidate("fifth", Function, 4, 5),
        ];
        let indexes = |groups: Vec<Group>| {
            groups
                .iter()
                .flat_map(|g| &g.cases)
                .map(|c| c.skb.index)
                .collect::<Vec<_>>()
        };
        assert_eq!(indexes(group(&all, BOTH, false)), [0, SkbArg::BY_COOKIE]);
        assert_eq!(indexes(group(&all, NONE, false)), [0, 2, 4]);

        // Those that trampolines can't serve, too, and the functions that copy to processes.
        let apart = |index, apart| Candidate {
            apart,
            ..candidate("any", Function, index, 2)
        };
        let all = [apart(0, false), apart(0, true), apart(1, true), apart(2, true)];
        assert_eq!(indexes(group(&all, BOTH, false)), [0, SkbArg::BY_COOKIE]);
        assert_eq!(indexes(group(&all, NONE, false)), [0, 1, 2]);
        let copying = [
            candidate("skb_copy_and_csum_datagram_msg", Function, 0, 3),
            candidate("skb_consume_udp", Function, 1, 3),
        ];
        assert_eq!(indexes(group(&copying, BOTH, false)), [SkbArg::BY_COOKIE]);
        assert_eq!(indexes(group(&copying, NONE, false)), [0, 1]);
    }

    #[test]
    fn roles_without_starts_share_a_program_where_cookies_tell_them_apart() {
        let of = |name, kind, index, indirect| {
            let mut candidate = candidate(name, kind, index, 3);
            candidate.skb.indirect = indirect;
            candidate
        };
        use PointKind::{Function, Tracepoint};
        let all = [
            of("kfree_skbmem", Function, 0, false),
            of("kfree_skb_partial", Function, 0, false),
            of("sk_skb_reason_drop", Function, 1, false),
            of("skb_consume_udp", Function, 1, false),
            of("any", Function, 1, true),
            of("net_dev_queue", Tracepoint, 0, false),
            of("second", Tracepoint, 1, false),
            of("fourth", Tracepoint, 3, false),
        ];
        let groups = group(&all, BOTH, false);
        for point in 0..5 {
            assert_eq!(role_of(&groups, point), (Role::ByCookie, SkbArg::BY_COOKIE));
        }
        assert_eq!(role_of(&groups, 5), (Role::Pass, 0));
        assert_eq!(role_of(&groups, 6), (Role::Pass, SkbArg::BY_COOKIE));
        assert_eq!(groups.len(), 3);
        // Freed, only if the second argument is not zero; at a pointer to the second.
        let told = groups.iter().find(|g| g.cases[0].role == Role::ByCookie).unwrap();
        assert_eq!(
            told.cookies,
            [
                0x70 << 32,
                0x170 << 32 | 1,
                1 << 32 | 2,
                0x11 << 32 | 3,
                9 << 32 | 4
            ]
        );
        assert_eq!(group(&all, NONE, false).len(), 8);
    }

    #[test]
    fn what_few_hits_go_by_shares_a_program_where_cookies_tell_it_apart() {
        use PointKind::Function;
        let apart = Candidate {
            apart: true,
            ..candidate("apart", Function, 2, 3)
        };
        let all = [
            candidate("first", Function, 0, 1),
            candidate("second", Function, 1, 2),
            candidate("third", Function, 2, 3),
            candidate("nf_hook_slow", Function, 0, 4),
            candidate("pskb_expand_head", Function, 0, 4),
            apart,
            candidate("__copy_skb_header", Function, 0, 2),
            candidate("kfree_skbmem", Function, 0, 1),
        ];
        let groups = group(&all, BOTH, false);
        let points: Vec<Vec<u32>> = groups
            .iter()
            .map(|g| g.points.iter().map(|p| p.0).collect())
            .collect();
        assert_eq!(
            points,
            [vec![0], vec![1], vec![2], vec![5], vec![6, 7], vec![3, 4]]
        );
        let cases: Vec<u64> = groups[5].cookies.iter().map(|cookie| cookie >> 48).collect();
        assert_eq!(cases, [0, 1]);
        assert_eq!(role_of(&groups, 2).0, Role::Pass);
        assert_eq!(
            role_of(&groups, 3).0,
            Role::Hook {
                state: 1,
                rules: None
            }
        );
        assert_eq!(role_of(&groups, 4).0, Role::Reallocate);
        // What is in the lower half stays the point's number.
        let numbers: Vec<u32> = groups[5].cookies.iter().map(|&cookie| cookie as u32).collect();
        assert_eq!(numbers, [3, 4]);
        assert_eq!(group(&all, NONE, false).len(), 7);
    }

    #[test]
    fn a_clones_original_is_no_functions_own_packet() {
        let (name, header) = ("__skb_clone", "__copy_skb_header");
        let clone = |name| Candidate {
            apart: true,
            ..candidate(name, PointKind::Function, 0, 2)
        };
        let groups = group(&[clone(name), clone(header)], BOTH, false);
        // Its cookie would say where the copy is.
        assert_eq!(role_of(&groups, 0), (Role::Pass, 1));
    }
}
