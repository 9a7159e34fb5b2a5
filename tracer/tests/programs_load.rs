//! Every program that the tracer builds passes the verifier of the kernel that the tests run on.

use ktrail::kernel::btf::KernelBtf;
use ktrail::kernel::features::Features;
use ktrail::kernel::maps::Maps;
use ktrail::kernel::program::{LoadOptions, load};
use ktrail::trace::extras::{self, Extras};
use ktrail::trace::offsets::Offsets;
use ktrail::trace::program::beneath::{self, Moment};
use ktrail::trace::program::{self, Limits, Only, Place, Role, Rules, SkbArg, Spec, Turn, Watch, maps};
use ktrail_ebpf::codegen::{self, PacketAccess};
use ktrail_ebpf::filter::{self, Env};
use ktrail_ebpf::ir::ProgramKind;

const ROLES: &[Role] = &[
    Role::Pass,
    Role::Device,
    Role::Hook {
        state: 1,
        rules: None,
    },
    Role::Hook {
        state: 2,
        rules: Some(Rules::Nft(0)),
    },
    Role::Hook {
        state: 1,
        rules: Some(Rules::Xt(2)),
    },
    Role::Verdict { immediate: true },
    Role::Verdict { immediate: false },
    Role::PassFollowed,
    Role::Reallocate,
    Role::Clone { from: 1 },
    Role::Copy,
    Role::Transmit { code: 1 },
    Role::Drop {
        location: 1,
        reason: None,
        last: true,
    },
    Role::Drop {
        location: 1,
        reason: Some(2),
        last: false,
    },
    Role::Consume {
        location: None,
        last: true,
    },
    Role::Free { only_if: None },
    Role::Free { only_if: Some(1) },
    Role::ByCookie,
];

#[test]
fn every_role_passes_the_verifier() {
    let btf = KernelBtf::load().expect("BTF");
    let features = Features::probe(&btf).expect("a kernel that runs programs");
    let offsets = Offsets::resolve(&btf).expect("the kernel's packets");
    let limits = Limits {
        ring: 1 << 16,
        follow: 64,
        calls: 64,
        watch: None,
        folded: 0,
    };
    let folding = Limits { folded: 64, ..limits };
    let field = |path| extras::field(&btf, path).unwrap_or_else(|e| panic!("{e}"));
    let full = Extras {
        fields: [
            "skb.mark",
            "skb.dev.name",
            "skb.pkt_type",
            "skb.sk.__sk_common.skc_dport",
        ]
        .map(field)
        .into(),
        stack: 16,
    };
    let watching = |by_number| {
        let watch = Some(Watch {
            points: 64,
            by_number,
        });
        Limits { watch, ..limits }
    };
    let turn = |number| Some(Turn { pair: 3, number });
    let ways = [
        (Place::Cookie, limits, None),
        (Place::Ip, limits, None),
        (Place::Fixed(7), limits, None),
        (Place::Cookie, watching(true), turn(0)),
        (Place::Cookie, watching(true), turn(1)),
        (Place::Fixed(7), watching(true), None),
        (Place::Ip, watching(false), None),
        (Place::Fixed(7), watching(false), None),
        (Place::Cookie, folding, None),
        (Place::Ip, folding, None),
        (Place::Fixed(7), folding, None),
    ]
    .map(|way| (way, Maps::create(&maps(way.1)).expect("maps")));
    let cases = [
        ("", full, None),
        ("udp and dst 8.8.8.8 and port 53", Extras::default(), Some(32)),
    ];
    for (text, extras, task_stack) in cases {
        let Ok(filter) = filter::parse(text, &Env::default()) else {
            continue;
        };
        for &role in ROLES {
            if role == Role::ByCookie && !features.codegen.attach_cookie {
                continue;
            }
            for indirect in [false, true] {
                for only in [
                    Only::default(),
                    Only {
                        ifindex: Some(1),
                        netns: Some(2),
                    },
                ] {
                    for ((place, limits, turn), shared) in &ways {
                        let (place, limits, turn) = (*place, *limits, *turn);
                        let spec = Spec {
                            kind: ProgramKind::Kprobe,
                            skb: match role {
                                Role::ByCookie => SkbArg::TOLD,
                                _ => SkbArg { index: 0, indirect },
                            },
                            place,
                            starts: true,
                            role,
                            filter: &filter,
                            only,
                            offsets: &offsets,
                            limits,
                            extras: &extras,
                            task_stack,
                            turn,
                            get_func_ip: features.codegen.get_func_ip,
                        };
                        let mut programs = vec![program::build("test", std::slice::from_ref(&spec))];
                        if role == Role::Pass
                            && place == Place::Cookie
                            && !indirect
                            && only == Only::default()
                            && turn.is_none()
                            && features.codegen.attach_cookie
                        {
                            let case = |&role| Spec { role, ..spec };
                            let told = Spec {
                                role: Role::ByCookie,
                                skb: SkbArg::TOLD,
                                ..spec
                            };
                            let roles = ROLES.iter().filter(|role| **role != Role::ByCookie);
                            let cases: Vec<_> = roles.map(case).chain([told]).collect();
                            programs.push(program::build("test", &cases));
                        }
                        if role == Role::Pass && limits.folded == 0 {
                            let moments = [Moment::Entry, Moment::Return];
                            programs.extend(moments.map(|moment| beneath::build("test", &spec, moment)));
                        }
                        for program in programs {
                            let options = codegen::Options {
                                packet: PacketAccess::KernelRead,
                                features: &features.codegen,
                            };
                            let object = codegen::generate(&program, &options)
                                .unwrap_or_else(|e| panic!("{text:?} {role:?}: {e}"));
                            load(&object, shared, &LoadOptions::default())
                                .unwrap_or_else(|e| panic!("{text:?} {role:?} {place:?}: {e}\n{}", e.log));
                        }
                    }
                }
            }
        }
    }
}
