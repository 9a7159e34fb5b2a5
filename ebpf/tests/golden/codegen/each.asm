main:
   0: r1 = map[seen]
   2: r2 = fn +14
   4: r3 = 0
   5: r4 = 0
   6: call bpf_for_each_map_elem#164
   7: r6 = r0
   8: r1 = map[seen]
  10: r2 = fn +6
  12: r3 = 0
  13: r4 = 0
  14: call bpf_for_each_map_elem#164
  15: r0 = r6
  16: exit
visit:
  17: r6 = r3
  18: r3 = r2
  19: r1 = r10
  20: r1 += -8
  21: r2 = 8
  22: call bpf_probe_read_kernel#113
  23: r0 = *(u64 *)(r10 - 8)
  24: r1 = *(u64 *)(r6 + 0)
  25: r1 += r0
  26: r0 = map[sum][0]+0
  28: lock *(u64 *)(r0 + 0) += r1
  29: if r1 > 0x64 goto +2
  30: r0 = 0
  31: exit
  32: r0 = 1
  33: exit
