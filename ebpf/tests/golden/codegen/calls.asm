main:
   0: call bpf_get_current_pid_tgid#14
   1: r7 = r0
   2: *(u64 *)(r10 - 8) = r7
   3: r1 = map[hash]
   5: r2 = r10
   6: r2 += -8
   7: call bpf_map_lookup_elem#1
   8: if r0 == 0x0 goto +4
   9: r1 = *(u64 *)(r0 + 8)
  10: r1 += 1
  11: *(u64 *)(r0 + 8) = r1
  12: goto +10
  13: *(u64 *)(r10 - 24) = r7
  14: *(u64 *)(r10 - 16) = 1
  15: r1 = map[hash]
  17: r2 = r10
  18: r2 += -8
  19: r3 = r10
  20: r3 += -24
  21: r4 = 1
  22: call bpf_map_update_elem#2
  23: r1 = map[ring]
  25: r2 = 16
  26: r3 = 0
  27: call bpf_ringbuf_reserve#131
  28: r6 = r0
  29: if r6 == 0x0 goto +9
  30: call bpf_ktime_get_ns#5
  31: r1 = r0
  32: *(u64 *)(r6 + 0) = r1
  33: *(u64 *)(r6 + 8) = r7
  34: r1 = r6
  35: r2 = 0
  36: call bpf_ringbuf_submit#132
  37: r0 = 0
  38: exit
  39: r0 = 0
  40: exit
