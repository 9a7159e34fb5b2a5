# What scripts compute and print, compared with what the language says, in the kernel itself.
# kernels: 5.10 7; tried on the oldest and the newest only
. /lab/tests/lib.sh

cd /tmp || exit

# prints NAME PROGRAM [ARGS...]: the program's output is what comes on standard input.
prints() {
    local name=$1 program=$2
    shift 2
    cat >expected
    timeout 60 ktrail run -q -e "$program" "$@" >out 2>err
    check "$name" diff expected out
    cat err
    check "$name, without a complaint" test ! -s err
}

prints "integers" 'BEGIN {
    @a = -7; @b = (uint64)7; @c = 200; $d = 5;
    printf("%d %d %d %d\n", @a / 2, @a % 3, 7 / -2, -7 >> 60);
    printf("%d %d %u %x\n", (int8)@c, (uint8)300, (uint32)-1, 255);
    printf("%lld %llu %d\n", -1, -1, @b / (uint64)2);
    printf("%d %d %d\n", $d++, ++$d, $d--);
    printf("%d %d\n", @a == -7 ? 1 : 2, 0 ?: 3);
    printf("%s %s\n", true && @c > 100, !@c);
    exit(); } END { clear(@a); clear(@b); clear(@c); }' <<'OUT'
-3 -1 -3 -1
-56 44 4294967295 ff
-1 18446744073709551615 3
5 7 7
1 3
true false


OUT

prints "text" 'BEGIN {
    $s = "hello world";
    printf("[%s] [%-12s] [%12s] [%c]\n", $s, $s, "right", $s[4]);
    printf("%d %d %d %d\n", strlen($s), strncmp($s, "help", 3), strstr($s, "wor"), strcontains($s, "xyz"));
    printf("%s %d\n", str($s, 5), memcmp($s, "hellp", 5));
    if ($s == "hello world" && $s != "hello") { printf("same\n"); }
    printf("%s\n", pid > 1 ? "many" : "one");
    @t[$s, 1] = "x"; @t["short", 22] = "longer";
    printf("%s %s\n", @t["hello world", 1], @t["short", 22]);
    exit(); } END { clear(@t); }' <<'OUT'
[hello world] [hello world ] [       right] [o]
11 0 6 0
hello -1
same
many
x longer


OUT

prints "texts put together" 'config = { max_strlen = 16 } BEGIN {
    $a = "one"; @b = "two";
    printf("[%s] [%s] [%s]\n", str_concat($a, @b), str_concat("", $a), str_concat(@b, ""));
    $c = str_concat(str_concat($a, "-"), str_concat(@b, "-three-four-five")); printf("%s %d\n", $c, strlen($c));
    @m[str_concat($a, @b)] = 1; printf("%d\n", @m["onetwo"]);
    exit(); } END { clear(@b); clear(@m); }' <<'OUT'
[onetwo] [one] [two]
one-two-three-f 15
1


OUT

prints "tuples, records, arrays" 'BEGIN {
    $t = (1, "two", (3, (uint8)4)); print($t); printf("%d %s %d\n", $t.0, $t.1, $t.2.1);
    $r = (a = 1, b = "x"); print($r); print($r.b);
    print((uint8[8])0x0102030405060708); print((1, 2) == (1, 2));
    print(ntop(0x0100007f)); print(macaddr("abcdef")); print(ntop(pton("2001:db8::1")));
    exit(); }' <<'OUT'
(1, two, (3, 4))
1 two 4
{ .a = 1, .b = x }
x
[8,7,6,5,4,3,2,1]
true
127.0.0.1
61:62:63:64:65:66
2001:db8::1


OUT

prints "control" 'fn total($n : int64) : int64 { $s = 0; for ($i : 0..$n) { if ($i == 3) { continue; } $s += $i; } return $s; }
    macro twice(x) { x * 2 }
    BEGIN {
    $i = 0; while ($i < 100) { $i++; if ($i == 5) { break; } }
    printf("%d %d %d\n", $i, total(6), twice(4 + 1));
    unroll (3) { printf("."); } printf("\n");
    if ($1 == 7) { printf("%s %d %s\n", str($2), $#, getopt("flag") ? "on" : "off"); }
    exit(3); printf("never\n"); }
    END { printf("end\n"); }' 7 word -- --flag <<'OUT'
5 12 10
...
word 2 on
end


OUT

prints "maps" 'BEGIN {
    @m["a"] = 10; @m["b"] = 30; @m["c"] = 20;
    print(@m); print(@m, 1); print(@m, 2, 10); print(@m["b"]);
    @n[1, "x"]++; @n[1, "x"] += 4; printf("%d %d %d\n", @n[1, "x"], has_key(@n, (1, "x")), has_key(@n, (2, "x")));
    printf("%d %d\n", delete(@n, (1, "x")), delete(@n, (1, "x")));
    $found = 5; printf("%d %d\n", find(@m, "b", $found), $found);
    zero(@m); print(@m); clear(@m); print(@m);
    @s = stats(4); @s = stats(6); @avg = avg(10); @avg = avg(21); @min = min(-3); @max = max(4); @sum = sum(-5);
    @count[1] = count(); @count[1] = count(); @h = hist(5); @l = lhist(25, 0, 100, 10);
    exit(); }' <<'OUT'
@m[a]: 10
@m[c]: 20
@m[b]: 30
@m[b]: 30
@m[c]: 2
@m[b]: 3
30
5 1 0
1 0
1 30
@m[a]: 0
@m[b]: 0
@m[c]: 0


@avg: 15
@count[1]: 2
@h:
[4, 8)                 1 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|

@l:
[20, 30)               1 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|

@max: 4
@min: -3
@s: { .count = 2, .average = 5, .total = 10 }
@sum: -5
OUT

if kernel_at_least 5.13; then
    prints "loops over maps" 'BEGIN {
        @m["a"] = 1; @m["b"] = 2; @m["c"] = 3; @n[1, 2] = 5;
        $sum = 0; $text = "";
        for ($kv : @m) { $sum += $kv.1; if ($kv.1 == 2) { $text = $kv.0; continue; } }
        printf("%d %s %d\n", $sum, $text, len(@m));
        for ($kv : @n) { print($kv); }
        $rounds = 0;
        for ($a : @m) { for ($b : @m) { $rounds++; if ($rounds == 7) { break; } } delete(@m, $a.0); }
        printf("%d %d\n", $rounds, len(@m));
        for ($kv : @n) { exit(); }
        printf("never\n"); }
        END { clear(@n); }' <<'OUT'
6 b 3
((1, 2), 5)
6 0


OUT
else
    check_fails "loops over maps are refused" ktrail run -e 'BEGIN { @m[1] = 1; for ($kv : @m) { print($kv); } exit(); }' 2>err
fi

# Intervals of twenty years, which start at midnight: what is printed doesn't depend on the time.
prints "series" 'BEGIN {
    @a = tseries(4, 7300d, 3); @a = tseries(-5, 7300d, 3);
    @b["x", 1] = tseries(4, 7300d, 3, "sum"); @b["x", 1] = tseries(-5, 7300d, 3, "sum");
    @c = tseries(9, 7300d, 3, "avg"); @c = tseries(-4, 7300d, 3, "avg");
    @d = tseries(4, 7300d, 1000, "min"); @d = tseries(9, 7300d, 1000, "min");
    exit(); }' <<'OUT'


@a:
                   -6                                                 -4
hh:mm:ss.ns        |___________________________________________________|
00:00:00.000000000 |                         *                         | -5
                   v___________________________________________________v
                   -6                                                 -4

@b[x, 1]:
                   -2                                                  0
hh:mm:ss.ns        |___________________________________________________|
00:00:00.000000000 |                         *                         | -1
                   v___________________________________________________v
                   -2                                                  0

@c:
                   1                                                   3
hh:mm:ss.ns        |___________________________________________________|
00:00:00.000000000 |                         *                         | 2
                   v___________________________________________________v
                   1                                                   3

@d:
                   3                                                   5
hh:mm:ss.ns        |___________________________________________________|
00:00:00.000000000 |                         *                         | 4
                   v___________________________________________________v
                   3                                                   5

OUT

check "series for programs" jq -es 'map(select(.type == "tseries").data) | [.[0]["@a"][], .[1]["@b"].x[]] |
    map(.value) == [-5, 3] and all(.interval_start | endswith(" 00:00:00.000000000"))' <(
    ktrail run -q -f json -e 'BEGIN { @a = tseries(-5, 7300d, 3); @b["x"] = tseries(3, 7300d, 3, "max"); exit(); }')

prints "addresses" 'BEGIN {
    $x = 5; $t = "text"; @m = 7; @k["a"] = 9; @u++;
    $p = &$x; $x = 6;
    printf("%d %d %d %d %d\n", *$p, *(&$x), *(&@m), *(&@k["a"]), *(&@u));
    printf("%d %d %d\n", &$x != 0, &$x == $p, &@k["b"]);
    printf("%s %d\n", str(&$t), (uint64)&$x >> 56);
    exit(); } END { clear(@m); clear(@k); clear(@u); }' <<'OUT'
6 6 7 9 1
1 1 0
text 255


OUT

paths() { ktrail run -q -e "$1" -c 'cat /etc/hostname' >out 2>err; cat err; grep -Fqx "$2" out; }
check "a file's path" paths 'fentry:security_file_open /comm == "cat"/ { @[path(args.file.f_path, 100)]++; }' '@[/etc/hostname]: 1'
check "a path that is cut" paths 'fentry:security_file_open /comm == "cat"/ { printf("[%s]\n", path(args.file.f_path, 3)); }' '[]'
if kernel_at_least 5.11; then
    exec 7</etc/passwd
    check "the paths of a process's files" paths \
        "iter:task_file /args.task->pid == $$ && args.fd == 7/ { printf(\"%s\\n\", path(args.file.f_path)); }" /etc/passwd
    exec 7<&-
fi

if kernel_at_least 6.9; then
    prints "loops of many rounds" 'config = { print_maps_on_exit = false } BEGIN { let $n : int64 = 0; let $k : int64 = 0;
        for ($i : 0..50000) { $n += $i; @ = count(); }
        for ($i : 0..300) { for ($j : 0..300) { $k++; if ($k % 7 == 0) { @ = count(); } } }
        print(($n, $k)); exit(); }' <<'OUT'
(1249975000, 90000)


OUT
fi

prints "a variable that each CPU has its own of" 'BEGIN {
    $first = (struct rq *)percpu_kaddr("runqueues", 0); $own = (struct rq *)percpu_kaddr("runqueues");
    printf("%d %d %d\n", $first.cpu, $own.cpu == cpu, percpu_kaddr("runqueues", 9999) == 0); exit(); }' <<'OUT'
0 1 1


OUT
# What a shell has just put together can be written to: pages that nobody wrote to yet can't.
written() {
    ktrail run -q --unsafe -c "printf 'before\n'" -e 'tracepoint:syscalls:sys_enter_write /pid == cpid && args.count == 7/ {
        $text = "after "; printf("%d %d\n", write_user(args.buf, $text, 6), write_user(5, "a", 1)); }' >out
    cat out
    grep -qx '1 0' out && grep -qx 'after ' out
}
check "a process's memory is written" written
cookie() {
    ktrail run -q -c "$BASH -c 'exec 3<>/dev/tcp/127.0.0.1/9'" -e 'fentry:tcp_v4_connect {
        $cookie = socket_cookie(args.sk);
        printf("%d %d\n", $cookie > 0, $cookie == args.sk.__sk_common.skc_cookie.counter); }' >out 2>err
    cat out err
    grep -qx '1 1' out
}
if kernel_at_least 5.12; then check "a socket's cookie" cookie; fi

# What each kind of probe takes for the function that it is in, one and several.
functions() {
    ktrail run -q -e 'kprobe:security_file_open { @["kprobe", func] = 1; } kretprobe:security_file_open { @["kretprobe", func] = 1; }
        fentry:security_file_open { @["fentry", func] = 1; } fexit:security_file_open { @["fexit", func] = 1; }
        span:security_file_open { @["span", func] = 1; } kretprobe:security_file_o* { @["kretprobes", func] = 1; }
        fentry:security_file_o* { @["fentries", func] = 1; } span:security_file_o* { @["spans", func] = 1; }' \
        -c 'cat /etc/hostname' >out 2>err
    cat err
    local kind
    for kind in kprobe kretprobe fentry fexit span kretprobes fentries spans; do
        grep -Fqx "@[$kind, security_file_open]: 1" out || { echo "$kind:"; cat out; return 1; }
    done
}
check "the function's name" functions

# wildcards PATTERN KIND [CONDITION]: wildcards by trampolines, which from 7.2 on are one link, see the same calls as
# kprobes do.
wildcards() {
    ktrail run -q -e "kprobe:$1 /comm == \"cat\"/ { @[\"kprobe\", func] = count(); }
        $2:$1 /comm == \"cat\" $3/ { @[\"$2\", func] = count(); }" -c 'cat /etc/hostname' >out 2>err
    cat err
    of '\[kprobe, ' | grep -q '^vfs_read\]: [1-9]' || { cat out; return 1; }
    diff <(of '\[kprobe, ') <(of "\\[$2, ")
}
of() { sed -n "s/^@$1//p" out | sort; }
# arguments PROBE ARGUMENT: what a read asks for and what it gets.
arguments() { ktrail run -q -e "$1 /comm == \"cat\"/ { @[func, $2, retval] = count(); }" -c 'cat /etc/hostname'; }
same_arguments() {
    local one
    one=$(arguments fexit:vfs_read args.count | grep -F '@[vfs_read, ') || return 1
    arguments 'fexit:vfs_re*' arg2 | grep -F '@[vfs_read, ' | diff <(echo "$one") - || return 1
    arguments 'span:vfs_re*' arg2 | grep -F '@[vfs_read, ' | diff <(echo "$one") -
}
wild='vfs_re*'
if kernel_at_least 7.2; then
    wild='vfs_*'
    program() { ktrail run -d ir -e "$1:$wild { @[func, probe] = count(); }" | grep -c '^program.*tracing_multi'; }
    for kind in fentry fexit span; do
        check "a wildcard of $kind is one program" test "$(program $kind)" = 1
    done
fi
check "a wildcard of fentry" wildcards "$wild" fentry
check "a wildcard of fexit" wildcards "$wild" fexit
check "a wildcard of span" wildcards "$wild" span '&& duration > 0 && duration < 1000000000'
check "arguments and results by wildcards" same_arguments

prints "an iterator" 'iter:task /args.task->pid == 1/ { printf("%d %s\n", args.task->tgid, probetype); }' <<'OUT'
1 iter


OUT
