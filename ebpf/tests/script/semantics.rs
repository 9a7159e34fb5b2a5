//! What scripts compute, in the interpreter of instructions.

use std::collections::BTreeMap;

use ktrail_ebpf::codegen::{Options, PacketAccess, generate};
use ktrail_ebpf::script::env::ScriptEnv;
use ktrail_ebpf::script::output::ErrorKind;
use ktrail_ebpf::vm::{Kernel, run};

use crate::env::Table;
use crate::programs::compiled;

/// Run BEGIN and give the 64-bit values of the script's maps without keys, and how often things went wrong.
fn results(text: &str) -> (BTreeMap<String, i64>, Vec<(ErrorKind, u64)>) {
    let compiled = compiled(text).unwrap_or_else(|e| panic!("{text}\n{e}"));
    let table = Table::new();
    let options = Options {
        packet: PacketAccess::KernelRead,
        features: table.features(),
    };
    let object = generate(&compiled.probes[0].program, &options).unwrap_or_else(|e| panic!("{text}\n{e}"));
    let mut kernel = Kernel::new(&object.maps);
    run(&object, &mut kernel, 0, 1 << 22).unwrap_or_else(|e| panic!("{text}\n{e}\n{}", object.disassemble()));
    assert!(!kernel.leaks_records(), "{text}");
    let number = |name: &str| object.maps.iter().position(|m| m.name == name).map(|i| i as u32);
    let mut values = BTreeMap::new();
    for map in compiled.maps.iter().filter(|m| m.key.is_none()) {
        let value = number(&map.decl.name).and_then(|i| kernel.value(i, &[0; 4]));
        if let Some(value) = value {
            let mut word = [0; 8];
            word.copy_from_slice(&value[..8]);
            values.insert(map.name.clone(), i64::from_le_bytes(word));
        }
    }
    let mut wrong = vec![];
    for (i, site) in compiled.errors.iter().enumerate() {
        let key = (i as u32).to_le_bytes();
        let count = number("errors").and_then(|m| kernel.value(m, &key));
        let count = count.map_or(0, |bytes| u64::from_le_bytes(bytes[..8].try_into().unwrap()));
        if count > 0 {
            wrong.push((site.kind.clone(), count));
        }
    }
    (values, wrong)
}

/// `@r = …` in BEGIN.
fn result(statements: &str) -> i64 {
    // So that it is 64 bits wide whatever comes.
    let text = format!("BEGIN {{ @r = 0; {statements} }}");
    let (values, wrong) = results(&text);
    assert_eq!(wrong, [], "{text}");
    values["@r"]
}

#[test]
fn arithmetic() {
    // A map's value is not known to the compiler.
    let cases = [
        ("@a = 7; @r = @a * 3 - 1", 20),
        ("@a = -7; @r = @a / 2", -3),
        ("@a = -7; @r = @a % 3", -1),
        ("@a = 7; @r = @a / -2", -3),
        ("@a = (uint64)7; @r = @a / (uint64)2", 3),
        ("@a = -16; @r = @a >> 60", 15),
        ("@a = 5; @r = @a << 3 | 1", 41),
        ("@a = 5; @r = ~@a", -6),
        ("@a = 5; @r = -@a", -5),
        ("@a = 5; @r = !@a", 0),
        ("@a = 300; @r = (uint8)@a", 44),
        ("@a = 200; @r = (int8)@a", -56),
        ("@a = 5; @r = @a > 4 && @a < 6", 1),
        ("@a = 5; @r = @a > 5 || @a < 5", 0),
        ("@a = -1; @r = @a < 1", 1),
        ("@a = (uint32)4294967295; @r = @a > 1", 1),
        ("@a = 5; @r = @a == 5 ? 10 : 20", 10),
        ("@a = 0; @r = @a ?: 20", 20),
        ("@a = 0x1234; @r = bswap((uint16)@a)", 0x3412),
        ("@a = 10; @r = @a == AF_INET6", 1),
    ];
    for (text, expected) in cases {
        assert_eq!(result(&format!("{text};")), expected, "{text}");
    }
}

#[test]
fn division_by_zero_gives_zero_and_is_counted() {
    let (values, wrong) = results("BEGIN { @z = 0; @r = 5 / @z; @s = 5 % @z; }");
    assert_eq!((values["@r"], values["@s"]), (0, 0));
    assert_eq!(
        wrong,
        [(ErrorKind::DivisionByZero, 1), (ErrorKind::DivisionByZero, 1)]
    );
}

#[test]
fn steps_and_assignments() {
    let cases = [
        ("$x = 5; $y = $x++; @r = $x * 10 + $y", 65),
        ("$x = 5; $y = ++$x; @r = $x * 10 + $y", 66),
        ("@a = 5; $y = @a++; @r = @a * 10 + $y", 65),
        ("@a = 5; $y = --@a; @r = @a * 10 + $y", 44),
        (
            "@k[1]++; @k[1]++; @k[2] += 5; @r = @k[1] * 10 + @k[2] + @k[3]",
            25,
        ),
        (
            "@k[1, \"a\"] = 3; @k[1, \"b\"] = 4; @r = @k[1, \"a\"] * 10 + @k[1, \"b\"]",
            34,
        ),
        ("@k[1] = 3; @r = delete(@k, 1); @s = delete(@k, 1)", 1),
        ("@k[1] = 3; delete(@k, 1); @r = has_key(@k, 1)", 0),
        ("@k[1] = 3; @r = has_key(@k, 1)", 1),
        ("@k[1] = 3; $v = 7; $f = find(@k, 1, $v); @r = $f * 100 + $v", 103),
        ("@k[1] = 3; $v = 7; $f = find(@k, 2, $v); @r = $f * 100 + $v", 7),
        (
            "@r = getopt(\"depth\", 3) + getopt(\"none\", 10) + getopt(\"flag\")",
            18,
        ),
        ("let $x : uint8 = 255; $x++; @r = $x", 0),
    ];
    for (text, expected) in cases {
        let (values, wrong) = results(&format!("BEGIN {{ {text}; }}"));
        if text.contains("uint8") {
            // The step leaves the type as it is.
            assert_eq!(values["@r"] & 0xff, expected, "{text}");
        } else {
            assert_eq!((values["@r"], wrong), (expected, vec![]), "{text}");
        }
    }
}

#[test]
fn aggregations_are_numbers() {
    let cases = [
        ("@c = count(); @c = count(); @r = (int64)@c", 2),
        ("@c[5] = sum(7); @c[5] = sum(-9); @r = @c[5] + @c[6]", -2),
        ("@c = avg(-7); @c = avg(-9); @r = @c", -8),
        ("@c = min(7); @c = min(-9); @c = min(3); @r = @c", -9),
        ("@c = max(-7); @c = max(-9); @r = @c", -7),
        ("@c = count(); @r = @c > 0 ? 5 : 6", 5),
    ];
    for (text, expected) in cases {
        assert_eq!(result(&format!("{text};")), expected, "{text}");
    }
}

#[test]
fn loops_and_functions() {
    let cases = [
        ("$s = 0; for ($i : 0..10) { $s += $i; } @r = $s", 45),
        (
            "$s = 0; $i = 0; while ($i < 10) { $i++; if ($i % 2 == 0) { continue; } $s += $i; } @r = $s",
            25,
        ),
        ("$s = 0; while (1) { $s++; if ($s == 7) { break; } } @r = $s", 7),
        ("$s = 0; unroll (5) { $s += 2; } @r = $s", 10),
        ("@a = 5; if (@a > 4) { $s = 1; } else { $s = 2; } @r = $s", 1),
        (
            "@a = 3; if (@a > 4) { $t = comm; $s = 1; } @r = $s * 10 + strlen($t)",
            0,
        ),
        (
            "$s = 0; for ($i : 0..4) { for ($j : 0..4) { if ($j == $i) { break; } $s++; } } @r = $s",
            6,
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(result(&format!("{text};")), expected, "{text}");
    }
    let (values, _) = results(
        "fn sign($a : int64) : int64 { if ($a < 0) { return -1; } return $a > 0; } \
         BEGIN { @r = sign(-5) * 100 + sign(7) * 10 + sign(0); }",
    );
    assert_eq!(values["@r"], -90);
}

#[test]
fn an_endless_loop_ends_and_is_counted() {
    let text = "BEGIN { $i = 0; while (1) { $i++; } @r = $i; }";
    let compiled = compiled(text).unwrap();
    assert_eq!(compiled.errors.len(), 1);
    assert!(matches!(compiled.errors[0].kind, ErrorKind::LoopBound(_)));
}

#[test]
fn text() {
    let cases = [
        ("@r = comm == \"vm\"", 1),
        ("@r = comm != \"vm\"", 0),
        ("@r = comm == \"vmx\"", 0),
        ("@r = comm == \"v\"", 0),
        ("$s = comm; @r = $s == comm", 1),
        ("@t = comm; @r = @t == \"vm\"", 1),
        ("@r = strncmp(comm, \"vxx\", 1)", 0),
        ("@r = strncmp(comm, \"vxx\", 2)", 1),
        ("@r = strcontains(comm, \"m\")", 1),
        ("@r = strcontains(comm, \"x\")", 0),
        ("@r = strlen(comm)", 2),
        ("@r = strstr(comm, \"m\")", 1),
        ("@r = strstr(comm, \"x\")", -1),
        ("@r = strstr(\"haystack\", \"st\")", 3),
        ("@r = strstr(comm, \"\")", 0),
        ("@r = memcmp(comm, \"vm\", 2)", 0),
        ("@r = memcmp(comm, \"vz\", 2)", -13),
        ("@r = memcmp(comm, \"vzz\", 1)", 0),
        ("@r = comm[1]", 109),
        ("@i = 1; @r = comm[@i]", 109),
        (
            "$t = (1, comm, \"abc\"); @r = $t.1 == \"vm\" && $t.2 == \"abc\"",
            1,
        ),
        ("@k[comm] = 5; @r = @k[\"vm\"]", 5),
        ("@k[comm, 1] = 5; @r = @k[\"vm\", 1]", 5),
    ];
    for (text, expected) in cases {
        assert_eq!(result(&format!("{text};")), expected, "{text}");
    }
}

/// The one bucket of a histogram that holds something.
fn bucket(statements: &str) -> usize {
    let text = format!("BEGIN {{ {statements} }}");
    let compiled = compiled(&text).unwrap_or_else(|e| panic!("{text}\n{e}"));
    let table = Table::new();
    let options = Options {
        packet: PacketAccess::KernelRead,
        features: table.features(),
    };
    let object = generate(&compiled.probes[0].program, &options).unwrap();
    let mut kernel = Kernel::new(&object.maps);
    run(&object, &mut kernel, 0, 1 << 20).unwrap();
    let map = object.maps.iter().position(|m| m.name == "AT_h").unwrap();
    let value = kernel.value(map as u32, &[0; 4]).unwrap();
    let found: Vec<usize> = value[..value.len() - 8]
        .chunks(8)
        .enumerate()
        .filter(|(_, c)| c.iter().any(|b| *b != 0))
        .map(|(i, _)| i)
        .collect();
    assert_eq!(found.len(), 1, "{text}");
    found[0]
}

#[test]
fn histograms_find_their_bucket() {
    // The formula, written plainly.
    let log = |v: i64, k: u32| -> usize {
        if v < 0 {
            return 0;
        }
        if v < 1 << k {
            return v as usize + 1;
        }
        let msb = 63 - v.leading_zeros();
        ((((msb - k + 1) << k) as i64) + ((v >> (msb - k)) & ((1 << k) - 1)) + 1) as usize
    };
    for k in 0..6 {
        for v in [-5, 0, 1, 2, 3, 7, 8, 100, 4096, 4097, i64::MAX] {
            let found = bucket(&format!("@v = {v}; @h = hist(@v, {k});"));
            assert_eq!(found, log(v, k), "hist({v}, {k})");
        }
    }
    for (v, expected) in [(-1, 0), (0, 1), (9, 1), (10, 2), (99, 10), (100, 11), (5000, 11)] {
        let found = bucket(&format!("@v = {v}; @h = lhist(@v, 0, 100, 10);"));
        assert_eq!(found, expected, "lhist({v})");
    }
}

#[test]
fn what_is_known_before_is_decided_before() {
    let cases = [
        (
            "if comptime (1 == 1) { @r = 1; } else { fail(\"never seen\"); }",
            1,
        ),
        (
            "if comptime (\"a\" == \"b\" || 2 > 3) { fail(\"no\"); } else { @r = 2; }",
            2,
        ),
        ("@r = comptime is_str(1) ? 3 : 4", 4),
        ("if comptime !is_literal(cpu) { @r = 5; }", 5),
        (
            "if comptime (typeinfo((uint32)1).full_type == \"uint32\") { @r = 6; }",
            6,
        ),
        (
            "if comptime (config.max_strlen == 1024 && config.license == \"GPL\") { @r = 7; }",
            7,
        ),
        ("static_assert(sizeof(uint64) == 8, \"eight\"); @r = 8", 8),
        // Both have their types: neither is a literal's.
        ("if ((uint64)-1 > 1) { @r = 9; }", 9),
        ("if ((int64)-1 < (uint64)1) { @r = 10; }", 10),
    ];
    for (statements, expected) in cases {
        assert_eq!(result(statements), expected, "{statements}");
    }
}

#[test]
fn types_are_asked_for() {
    let cases = [
        ("@r = is_str(\"a\") + is_str(1)", 1),
        ("@r = is_integer(1) + is_integer(true)", 1),
        ("@r = is_unsigned_integer((uint8)1) + is_unsigned_integer(1)", 1),
        ("@r = is_array((uint8[4])1) + is_array(1)", 1),
        ("@r = is_literal(-1) + is_literal(cpu)", 1),
        ("@a = -1; @r = is_err(@a)", 1),
        ("@a = -4096; @r = is_err(@a)", 0),
        ("@a = 7; @r = is_err(@a)", 0),
        ("@r = sizeof((uint8[])300)", 2),
        ("$x = (uint8[4])0x01020304; @r = $x[0]", 4),
    ];
    for (statements, expected) in cases {
        assert_eq!(result(statements), expected, "{statements}");
    }
}

#[test]
fn texts_are_put_together() {
    let cases = [
        ("@r = str_concat(\"ab\", \"cd\") == \"abcd\"", 1),
        ("$c = comm; @r = str_concat($c, \"-x\") == \"vm-x\"", 1),
        ("$c = comm; @r = str_concat(\"a \", $c) == \"a vm\"", 1),
        ("$c = comm; @r = strlen(str_concat(str_concat($c, $c), $c))", 6),
        ("$c = comm; @r = strcap(str_concat($c, $c))", 31),
        ("@r = strcap(\"abc\")", 4),
    ];
    for (statements, expected) in cases {
        assert_eq!(result(statements), expected, "{statements}");
    }
    let cut = "config = { max_strlen = 8 } BEGIN { $c = comm; $l = str_concat(str_concat($c, \"1234\"), \"5678\"); \
        @r = (int64)0; @r = strlen($l); @s = $l == \"vm12345\"; }";
    let (values, _) = results(cut);
    assert_eq!((values["@r"], values["@s"]), (7, 1));
}

#[test]
fn an_assertion_that_fails_ends_the_script() {
    let statements = "@a = 1; assert(@a == 1, \"fine\"); @r = 1; assert(@a == 2, \"wrong\"); @r = 2";
    assert_eq!(result(statements), 1);
}
